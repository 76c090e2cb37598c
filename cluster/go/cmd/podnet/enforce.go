package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// So long changes are gathered: a gang's pods come together.
const gather = 50 * time.Millisecond

// enforcer keeps the node's nftables rules as pods, namespaces and NetworkPolicies ask for.
type enforcer struct {
	node       string
	nodes      corelisters.NodeLister
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
	changed    chan struct{}
}

// newEnforcer adds what it reads to the factory, which the caller starts and syncs before run.
func newEnforcer(node string, factory informers.SharedInformerFactory) (*enforcer, error) {
	e := &enforcer{
		node:       node,
		nodes:      factory.Core().V1().Nodes().Lister(),
		pods:       factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
		changed:    make(chan struct{}, 1),
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Nodes().Informer(), factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(), factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { e.wake() },
			UpdateFunc: func(_, _ any) { e.wake() },
			DeleteFunc: func(any) { e.wake() },
		}); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *enforcer) wake() {
	select {
	case e.changed <- struct{}{}:
	default: // it is awake already
	}
}

// run writes the rules whenever they differ from those last written, until the context ends.
func (e *enforcer) run(ctx context.Context) {
	last, said := "", []string{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.changed:
		}
		time.Sleep(gather)
		w, err := e.world()
		if err != nil {
			klog.Errorf("policies: %v", err)
			continue
		}
		rules, complaints := w.ruleset()
		if !slices.Equal(complaints, said) {
			klog.Warningf("policies: %s", strings.Join(complaints, "; "))
			said = complaints
		}
		if rules == last {
			continue
		}
		if err := nft(ctx, rules); err != nil {
			klog.Errorf("policies: %v", err)
			time.AfterFunc(time.Second, e.wake)
			continue
		}
		last = rules
	}
}

func (e *enforcer) world() (*world, error) {
	node, err := e.nodes.Get(e.node)
	if err != nil {
		return nil, err
	}
	if node.Spec.PodCIDR == "" {
		return nil, errors.New("this node has no pod range yet")
	}
	w := &world{node: e.node, podCIDR: node.Spec.PodCIDR, namespaces: map[string]labels.Set{}}
	var namespaces []*corev1.Namespace
	if namespaces, err = e.namespaces.List(labels.Everything()); err != nil {
		return nil, err
	}
	for _, namespace := range namespaces {
		w.namespaces[namespace.Name] = namespace.Labels
	}
	if w.pods, err = e.pods.List(labels.Everything()); err != nil {
		return nil, err
	}
	w.policies, err = e.policies.List(labels.Everything())
	return w, err
}

// nft runs a script as one transaction.
func nft(ctx context.Context, script string) error {
	command := exec.CommandContext(ctx, "nft", "-f", "-")
	command.Stdin = strings.NewReader(script)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}
