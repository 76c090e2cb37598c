// podnet is the pod network of the development cluster, in the smallest form that is real. On each node it waits for
// the node's pod range, writes the CNI configuration that the container runtime reads, keeps one route for each other
// node's pod range, masquerades what leaves the pod network, and enforces the ingress part of NetworkPolicies.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const configurationPath = "/etc/cni/net.d/10-podnet.conflist"

const configuration = `{
  "cniVersion": "0.4.0",
  "name": "podnet",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "mtu": %d,
     "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
              "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "%s"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// Adding before deleting makes the first start, when there is no such table, the same as every later one.
const masquerading = `add table ip podnet
delete table ip podnet
table ip podnet {
  chain postrouting {
    type nat hook postrouting priority 90;
    ip saddr %[1]s ip daddr != %[1]s masquerade
  }
}
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET")); err != nil {
		klog.Fatal(err)
	}
}

func run(ctx context.Context, nodeName, podSubnet string) error {
	if err := nft(ctx, fmt.Sprintf(masquerading, podSubnet)); err != nil {
		return err
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	mtu := 1500
	if link, err := netlink.LinkByName("eth0"); err == nil {
		mtu = link.Attrs().MTU
	}

	update := func(object any) {
		node := object.(*corev1.Node)
		var err error
		if node.Name == nodeName {
			err = writeConfiguration(node.Spec.PodCIDR, mtu)
		} else if route := routeTo(node); route != nil {
			err = netlink.RouteReplace(route)
		}
		if err != nil {
			klog.Errorf("node %s: %v", node.Name, err)
		}
	}
	remove := func(object any) {
		if node, ok := object.(*corev1.Node); ok {
			if route := routeTo(node); route != nil {
				if err := netlink.RouteDel(route); err != nil {
					klog.Errorf("the route to %s: %v", node.Name, err)
				}
			}
		}
	}
	factory := informers.NewSharedInformerFactory(client, 5*time.Minute)
	informer := factory.Core().V1().Nodes().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    update,
		UpdateFunc: func(_, object any) { update(object) },
		DeleteFunc: remove,
	}); err != nil {
		return err
	}
	policies, err := newEnforcer(nodeName, factory)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the API server gave no list of %v", kind)
		}
	}
	klog.Infof("up on %s: pod subnet %s, MTU %d", nodeName, podSubnet, mtu)
	policies.run(ctx)
	return nil
}

// routeTo is the way to the node's pods, or nil while the node has no pod range or address, as kwok's nodes may.
func routeTo(node *corev1.Node) *netlink.Route {
	_, pods, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil || node.Annotations["kwok.x-k8s.io/node"] != "" {
		return nil
	}
	for _, address := range node.Status.Addresses {
		if ip := net.ParseIP(address.Address); address.Type == corev1.NodeInternalIP && ip.To4() != nil {
			return &netlink.Route{Dst: pods, Gw: ip}
		}
	}
	return nil
}

// writeConfiguration gives the file its name only when it is whole, and leaves an equal one alone.
func writeConfiguration(podCIDR string, mtu int) error {
	if podCIDR == "" {
		return nil
	}
	wanted := fmt.Sprintf(configuration, mtu, podCIDR)
	if present, err := os.ReadFile(configurationPath); err == nil && string(present) == wanted {
		return nil
	}
	if err := os.WriteFile(configurationPath+".tmp", []byte(wanted), 0o644); err != nil {
		return err
	}
	return os.Rename(configurationPath+".tmp", configurationPath)
}
