// A CSI driver for the tests' node: each volume is a folder, each snapshot a copy of one.
//
//	driver -name NAME -node NODE -root FOLDER -socket PATH [-registration PATH]
//
// It tells kubelet of itself, as node-driver-registrar would.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const version = "1"

type identity struct {
	csi.UnimplementedIdentityServer
	name string
}

func (i *identity) GetPluginInfo(
	context.Context, *csi.GetPluginInfoRequest,
) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: i.name, VendorVersion: version}, nil
}

func (i *identity) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	can := []*csi.PluginCapability{{Type: &csi.PluginCapability_Service_{Service: service}}}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: can}, nil
}

func (i *identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// registrar is what kubelet asks at the socket that it finds in its folder of plugins.
type registrar struct {
	registration.UnimplementedRegistrationServer
	name   string
	socket string
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.name,
		Endpoint:          r.socket,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(
	_ context.Context, told *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !told.GetPluginRegistered() {
		log.Fatalf("kubelet does not take it: %s", told.GetError())
	}
	log.Print("kubelet has taken it")
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	name := flag.String("name", "", "of the driver")
	nodeName := flag.String("node", "", "on which it runs")
	root := flag.String("root", "", "folder of the volumes and snapshots")
	socket := flag.String("socket", "", "where it is called")
	registry := flag.String("registration", "", "socket for kubelet, in its folder plugins_registry")
	flag.Parse()
	kept, err := newStorage(*root)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(logged))
	csi.RegisterIdentityServer(server, &identity{name: *name})
	csi.RegisterControllerServer(server, &controller{storage: kept})
	csi.RegisterNodeServer(server, &node{storage: kept, name: *nodeName})
	servers := []*grpc.Server{server}
	go serve(server, *socket)
	if *registry != "" {
		forKubelet := grpc.NewServer()
		registration.RegisterRegistrationServer(forKubelet, &registrar{name: *name, socket: *socket})
		servers = append(servers, forKubelet)
		go serve(forKubelet, *registry)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
	for _, one := range servers {
		one.Stop()
	}
}

func serve(server *grpc.Server, path string) {
	_ = os.Remove(path) // of one that was killed
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}

func logged(ctx context.Context, asked any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, asked)
	if err != nil {
		log.Printf("%s: %v", info.FullMethod, err)
	}
	return answer, err
}
