package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// NetworkPolicies as nftables rules for the pods of one node, without any I/O.
//
// What must stay true: a pod of this node is reached only after its own line was written, so it is isolated before it
// starts; what is not understood lets nothing in, and is said.

// Packets that the node itself sends (the kubelet's probes) take the output hook and pass. Adding before deleting makes
// the first start the same as every later one, and one transaction leaves no moment without rules.
const policyTable = `add table ip podnet_policies
delete table ip podnet_policies
table ip podnet_policies {
  chain forward {
    type filter hook forward priority 0;
    ct state established,related accept
    ip daddr != %s accept
%s    drop
  }
}
`

// world is what the rules depend on.
type world struct {
	node       string
	podCIDR    string
	pods       []*corev1.Pod
	namespaces map[string]labels.Set
	policies   []*networkingv1.NetworkPolicy
}

// ruleset is the table for the node's pods, and what of the policies it does not do.
func (w *world) ruleset() (string, []string) {
	lines, complaints := []string{}, []string{}
	for _, policy := range w.policies {
		if slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			complaints = append(complaints, fmt.Sprintf("%s/%s: egress is not enforced", policy.Namespace, policy.Name))
		}
	}
	for _, pod := range w.pods {
		if pod.Spec.NodeName == w.node && address(pod) != "" {
			allowed, unknown := w.allowed(pod)
			for _, condition := range allowed {
				lines = append(lines, "    "+strings.Join(append([]string{"ip daddr", address(pod)}, condition...), " ")+" accept\n")
			}
			complaints = append(complaints, unknown...)
		}
	}
	slices.Sort(lines)
	slices.Sort(complaints)
	return fmt.Sprintf(policyTable, w.podCIDR, strings.Join(slices.Compact(lines), "")), slices.Compact(complaints)
}

// address is the pod's own address; empty while it has none, when it has ended, and on the node's network.
func address(pod *corev1.Pod) string {
	if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ""
	}
	return pod.Status.PodIP
}

// allowed are the conditions under which packets reach the pod, each a list of words; one empty list lets all in.
func (w *world) allowed(pod *corev1.Pod) (conditions [][]string, complaints []string) {
	isolated := false
	for _, policy := range w.policies {
		if policy.Namespace != pod.Namespace || !matches(&policy.Spec.PodSelector, pod.Labels) ||
			!slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			continue
		}
		isolated = true
		for _, rule := range policy.Spec.Ingress {
			sources, unknown := w.sources(policy, rule.From)
			if unknown {
				complaints = append(complaints, fmt.Sprintf("%s/%s: ipBlock lets nothing in", policy.Namespace, policy.Name))
			}
			if len(rule.From) > 0 && len(sources) == 0 {
				continue
			}
			source := []string{}
			if len(rule.From) > 0 {
				source = []string{"ip saddr {", strings.Join(sources, ", "), "}"}
			}
			for _, port := range ports(rule.Ports, pod) {
				conditions = append(conditions, append(slices.Clone(source), port...))
			}
		}
	}
	if !isolated {
		return [][]string{{}}, nil
	}
	return conditions, complaints
}

// sources are the addresses of the pods that the peers select, and whether a peer is of a kind that is not known.
func (w *world) sources(policy *networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer) ([]string, bool) {
	found, unknown := []string{}, false
	for _, peer := range peers {
		if peer.IPBlock != nil {
			unknown = true
			continue
		}
		for _, pod := range w.pods {
			inNamespace := pod.Namespace == policy.Namespace
			if peer.NamespaceSelector != nil {
				inNamespace = matches(peer.NamespaceSelector, w.namespaces[pod.Namespace])
			}
			if inNamespace && address(pod) != "" && (peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels)) {
				found = append(found, address(pod))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), unknown
}

// ports are the conditions on ports, one empty one where there is none. A name means the pod's own port of that name.
func ports(wanted []networkingv1.NetworkPolicyPort, pod *corev1.Pod) [][]string {
	if len(wanted) == 0 {
		return [][]string{{}}
	}
	found := [][]string{}
	for _, port := range wanted {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		word := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			found = append(found, []string{"meta l4proto", word})
		case port.Port.Type == intstr.String:
			for _, container := range pod.Spec.Containers {
				for _, named := range container.Ports {
					if named.Name == port.Port.StrVal && named.Protocol == protocol {
						found = append(found, []string{word, "dport", strconv.Itoa(int(named.ContainerPort))})
					}
				}
			}
		case port.EndPort != nil:
			found = append(found, []string{word, "dport", fmt.Sprintf("%d-%d", port.Port.IntVal, *port.EndPort)})
		default:
			found = append(found, []string{word, "dport", strconv.Itoa(int(port.Port.IntVal))})
		}
	}
	return found
}

func matches(selector *metav1.LabelSelector, set labels.Set) bool {
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && compiled.Matches(set)
}
