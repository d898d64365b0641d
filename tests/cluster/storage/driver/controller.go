package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const smallest = 1 << 20

type controller struct {
	csi.UnimplementedControllerServer
	storage *storage
}

func (c *controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	var can []*csi.ControllerServiceCapability
	for _, one := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	} {
		rpc := &csi.ControllerServiceCapability_RPC{Type: one}
		can = append(can, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc}})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: can}, nil
}

func (c *controller) CreateVolume(_ context.Context, asked *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if asked.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "a name is missing")
	}
	if err := mountable(asked.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	c.storage.lock.Lock()
	defer c.storage.lock.Unlock()
	made := record{
		ID:      idOf(volumes, asked.GetName()),
		Bytes:   max(asked.GetCapacityRange().GetRequiredBytes(), smallest),
		Source:  asked.GetVolumeContentSource().GetSnapshot().GetSnapshotId(),
		Created: time.Now(),
	}
	found, err := c.storage.find(volumes, made.ID)
	if err == nil {
		if found.Bytes < made.Bytes || found.Source != made.Source {
			return nil, status.Errorf(codes.AlreadyExists, "%s is there, and another one", asked.GetName())
		}
		return &csi.CreateVolumeResponse{Volume: volume(found, asked)}, nil
	}
	if !errors.Is(err, errNone) {
		return nil, internal(err)
	}
	if limit := asked.GetCapacityRange().GetLimitBytes(); limit != 0 && limit < made.Bytes {
		return nil, status.Errorf(codes.OutOfRange, "a volume has %d bytes at least", made.Bytes)
	}
	from, err := c.content(asked.GetVolumeContentSource(), made.Bytes)
	if err != nil {
		return nil, err
	}
	if err := c.storage.add(volumes, made, from); err != nil {
		return nil, internal(err)
	}
	return &csi.CreateVolumeResponse{Volume: volume(made, asked)}, nil
}

// content is the folder with what a new volume holds; empty where it holds nothing.
func (c *controller) content(source *csi.VolumeContentSource, bytes int64) (string, error) {
	if source == nil {
		return "", nil
	}
	if source.GetSnapshot() == nil {
		return "", status.Error(codes.InvalidArgument, "a volume is made of nothing or of a snapshot")
	}
	id := source.GetSnapshot().GetSnapshotId()
	found, err := c.storage.find(snapshots, id)
	if errors.Is(err, errNone) {
		return "", status.Errorf(codes.NotFound, "there is no snapshot %s", id)
	}
	if err != nil {
		return "", internal(err)
	}
	if found.Bytes > bytes {
		return "", status.Errorf(codes.OutOfRange, "snapshot %s needs %d bytes", id, found.Bytes)
	}
	return c.storage.data(snapshots, id), nil
}

func (c *controller) DeleteVolume(_ context.Context, asked *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if asked.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume is missing")
	}
	c.storage.lock.Lock()
	defer c.storage.lock.Unlock()
	if err := c.storage.remove(volumes, asked.GetVolumeId()); err != nil {
		return nil, internal(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *controller) ValidateVolumeCapabilities(
	_ context.Context, asked *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if asked.GetVolumeId() == "" || len(asked.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a volume or what it should be able to do is missing")
	}
	if _, err := c.storage.find(volumes, asked.GetVolumeId()); err != nil {
		return nil, status.Errorf(codes.NotFound, "there is no volume %s", asked.GetVolumeId())
	}
	if err := mountable(asked.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
			VolumeContext:      asked.GetVolumeContext(),
			VolumeCapabilities: asked.GetVolumeCapabilities(),
			Parameters:         asked.GetParameters(),
		},
	}, nil
}

func (c *controller) CreateSnapshot(
	_ context.Context, asked *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	if asked.GetName() == "" || asked.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "a name or a volume is missing")
	}
	c.storage.lock.Lock()
	defer c.storage.lock.Unlock()
	id := idOf(snapshots, asked.GetName())
	found, err := c.storage.find(snapshots, id)
	if err == nil {
		if found.Source != asked.GetSourceVolumeId() {
			return nil, status.Errorf(codes.AlreadyExists, "%s is there, and of %s", asked.GetName(), found.Source)
		}
		return &csi.CreateSnapshotResponse{Snapshot: snapshot(found)}, nil
	}
	if !errors.Is(err, errNone) {
		return nil, internal(err)
	}
	if refusal := c.storage.refusal(); refusal != "" {
		return nil, status.Error(codes.ResourceExhausted, refusal)
	}
	of, err := c.storage.find(volumes, asked.GetSourceVolumeId())
	if errors.Is(err, errNone) {
		return nil, status.Errorf(codes.NotFound, "there is no volume %s", asked.GetSourceVolumeId())
	}
	if err != nil {
		return nil, internal(err)
	}
	made := record{ID: id, Bytes: of.Bytes, Source: of.ID, Created: time.Now()}
	if err := c.storage.add(snapshots, made, c.storage.data(volumes, of.ID)); err != nil {
		return nil, internal(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(made)}, nil
}

func (c *controller) DeleteSnapshot(
	_ context.Context, asked *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	if asked.GetSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "a snapshot is missing")
	}
	c.storage.lock.Lock()
	defer c.storage.lock.Unlock()
	if err := c.storage.remove(snapshots, asked.GetSnapshotId()); err != nil {
		return nil, internal(err)
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

func (c *controller) ListSnapshots(
	_ context.Context, asked *csi.ListSnapshotsRequest,
) (*csi.ListSnapshotsResponse, error) {
	all, err := c.storage.list(snapshots)
	if err != nil {
		return nil, internal(err)
	}
	var wanted []*csi.ListSnapshotsResponse_Entry
	for _, one := range all {
		if id := asked.GetSnapshotId(); id != "" && id != one.ID {
			continue
		}
		if id := asked.GetSourceVolumeId(); id != "" && id != one.Source {
			continue
		}
		wanted = append(wanted, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot(one)})
	}
	start := 0
	if token := asked.GetStartingToken(); token != "" {
		start, err = strconv.Atoi(token)
		if err != nil || start < 0 || start > len(wanted) {
			return nil, status.Errorf(codes.Aborted, "no page begins with %s", token)
		}
	}
	end, next := len(wanted), ""
	if most := int(asked.GetMaxEntries()); most > 0 && start+most < end {
		end = start + most
		next = strconv.Itoa(end)
	}
	return &csi.ListSnapshotsResponse{Entries: wanted[start:end], NextToken: next}, nil
}

func volume(found record, asked *csi.CreateVolumeRequest) *csi.Volume {
	return &csi.Volume{
		VolumeId:      found.ID,
		CapacityBytes: found.Bytes,
		VolumeContext: asked.GetParameters(),
		ContentSource: asked.GetVolumeContentSource(),
	}
}

func snapshot(found record) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId:     found.ID,
		SourceVolumeId: found.Source,
		SizeBytes:      found.Bytes,
		CreationTime:   timestamppb.New(found.Created),
		ReadyToUse:     true,
	}
}

// mountable refuses block devices: a folder is none.
func mountable(wanted []*csi.VolumeCapability) error {
	if len(wanted) == 0 {
		return status.Error(codes.InvalidArgument, "what the volume should be able to do is missing")
	}
	for _, one := range wanted {
		if one.GetMount() == nil {
			return status.Error(codes.InvalidArgument, "only volumes with files are to be had")
		}
	}
	return nil
}

func internal(err error) error {
	return status.Error(codes.Internal, err.Error())
}
