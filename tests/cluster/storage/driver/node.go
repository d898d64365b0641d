package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type node struct {
	csi.UnimplementedNodeServer
	storage *storage
	name    string
}

func (n *node) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

// NodePublishVolume mounts the folder of the volume where kubelet wants it. It is well when it is there already.
func (n *node) NodePublishVolume(
	_ context.Context, asked *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	id, target := asked.GetVolumeId(), asked.GetTargetPath()
	if id == "" || target == "" || asked.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "a volume, a path or what it should be able to do is missing")
	}
	if err := mountable([]*csi.VolumeCapability{asked.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	if _, err := n.storage.find(volumes, id); err != nil {
		return nil, status.Errorf(codes.NotFound, "there is no volume %s", id)
	}
	n.storage.lock.Lock()
	defer n.storage.lock.Unlock()
	data := n.storage.data(volumes, id)
	if same(data, target) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, internal(err)
	}
	if err := unix.Mount(data, target, "", unix.MS_BIND, ""); err != nil {
		return nil, internal(err)
	}
	if asked.GetReadonly() {
		if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return nil, internal(errors.Join(err, unix.Unmount(target, 0)))
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume is well when nothing is there.
func (n *node) NodeUnpublishVolume(
	_ context.Context, asked *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	id, target := asked.GetVolumeId(), asked.GetTargetPath()
	if id == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume or a path is missing")
	}
	n.storage.lock.Lock()
	defer n.storage.lock.Unlock()
	if same(n.storage.data(volumes, id), target) {
		if err := unix.Unmount(target, 0); err != nil {
			return nil, internal(err)
		}
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) { // never what is in it
		return nil, internal(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// same says whether the folder is the one that is to be found at the path.
func same(folder, path string) bool {
	one, err := os.Stat(folder)
	if err != nil {
		return false
	}
	other, err := os.Stat(path)
	return err == nil && os.SameFile(one, other)
}
