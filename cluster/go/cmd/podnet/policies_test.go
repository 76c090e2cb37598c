package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// pod is one of node n1 whose address is 10.0.0.NUMBER.
func pod(namespace string, number int, set labels.Set) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(number), Labels: set},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9400, Protocol: corev1.ProtocolTCP}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.0.0.%d", number)},
	}
}

// change applies changes to a pod.
func change(pod *corev1.Pod, changes ...func(*corev1.Pod)) *corev1.Pod {
	for _, one := range changes {
		one(pod)
	}
	return pod
}

func elsewhere(pod *corev1.Pod)   { pod.Spec.NodeName = "n2" }
func hostNetwork(pod *corev1.Pod) { pod.Spec.HostNetwork = true }
func ended(pod *corev1.Pod)       { pod.Status.Phase = corev1.PodSucceeded }
func starting(pod *corev1.Pod)    { pod.Status.PodIP = "" }

func policy(t *testing.T, namespace, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	made := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &made.Spec); err != nil {
		t.Fatal(err)
	}
	return made
}

const ofJob = `{podSelector: {matchLabels: {job: x}}, policyTypes: [Ingress], ingress: [%s]}`

var (
	member   = labels.Set{"job": "x"}
	gang     = []*corev1.Pod{pod("a", 1, member), change(pod("a", 2, member), elsewhere)}
	stranger = pod("a", 3, nil)
	abroad   = pod("b", 4, member)
	everyone = append(slices.Clone(gang), stranger, abroad)
)

func TestRuleset(t *testing.T) {
	for name, test := range map[string]struct {
		pods      []*corev1.Pod
		policy    string // in namespace a
		want      []string
		complaint string
	}{
		"a pod that no policy selects is open": {
			pods: []*corev1.Pod{stranger}, policy: fmt.Sprintf(ofJob, ""), want: []string{"10.0.0.3 accept"},
		},
		"a selected pod without a rule is closed": {
			pods: gang, policy: fmt.Sprintf(ofJob, ""), want: nil,
		},
		"peers are the selected pods of the policy's own namespace, on every node": {
			pods:   everyone,
			policy: fmt.Sprintf(ofJob, `{from: [{podSelector: {matchLabels: {job: x}}}]}`),
			want: []string{
				"10.0.0.1 ip saddr { 10.0.0.1, 10.0.0.2 } accept", "10.0.0.3 accept", "10.0.0.4 accept",
			},
		},
		"an empty namespace selector means the pods of all namespaces": {
			pods:   []*corev1.Pod{gang[0], abroad},
			policy: fmt.Sprintf(ofJob, `{from: [{namespaceSelector: {}}], ports: [{port: 9400}]}`),
			want:   []string{"10.0.0.1 ip saddr { 10.0.0.1, 10.0.0.4 } tcp dport 9400 accept", "10.0.0.4 accept"},
		},
		"both selectors together": {
			pods: []*corev1.Pod{gang[0], stranger, abroad},
			policy: fmt.Sprintf(ofJob,
				`{from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchExpressions: [{key: job, operator: Exists}]}}]}`),
			want: []string{"10.0.0.1 ip saddr { 10.0.0.4 } accept", "10.0.0.3 accept", "10.0.0.4 accept"},
		},
		"a rule without peers lets in whatever comes": {
			pods: gang, policy: fmt.Sprintf(ofJob, `{ports: [{port: 80, endPort: 90}, {protocol: UDP}]}`),
			want: []string{"10.0.0.1 meta l4proto udp accept", "10.0.0.1 tcp dport 80-90 accept"},
		},
		"a port's name is looked up in the pod": {
			pods: gang, policy: fmt.Sprintf(ofJob, `{ports: [{port: metrics}, {port: other}, {port: metrics, protocol: UDP}]}`),
			want: []string{"10.0.0.1 tcp dport 9400 accept"},
		},
		"peers that do not exist let nobody in": {
			pods: gang, policy: fmt.Sprintf(ofJob, `{from: [{podSelector: {matchLabels: {job: y}}}]}`), want: nil,
		},
		"pods without an address of their own are not there": {
			pods: []*corev1.Pod{
				change(pod("a", 1, nil), hostNetwork), change(pod("a", 2, nil), ended), change(pod("a", 3, nil), starting),
			},
			policy: fmt.Sprintf(ofJob, ""), want: nil,
		},
		"an address range lets nothing in, and that is said": {
			pods: gang, policy: fmt.Sprintf(ofJob, `{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}`), want: nil,
			complaint: "a/p: ipBlock lets nothing in",
		},
		"egress is not enforced, and that is said": {
			pods: []*corev1.Pod{stranger}, policy: `{podSelector: {}, policyTypes: [Egress]}`,
			want: []string{"10.0.0.3 accept"}, complaint: "a/p: egress is not enforced",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{
				node: "n1", podCIDR: "10.0.0.0/24", pods: test.pods,
				namespaces: map[string]labels.Set{"a": {}, "b": {"team": "b"}},
				policies:   []*networkingv1.NetworkPolicy{policy(t, "a", test.policy)},
			}
			rules, complaints := w.ruleset()
			var have []string
			for _, line := range strings.Split(rules, "\n") {
				if rest, found := strings.CutPrefix(line, "    ip daddr 10"); found {
					have = append(have, "10"+strings.Join(strings.Fields(rest), " "))
				}
			}
			if !slices.Equal(have, test.want) {
				t.Errorf("have %q, want %q", have, test.want)
			}
			if strings.Join(complaints, " ") != test.complaint {
				t.Errorf("complaints %q, want %q", complaints, test.complaint)
			}
		})
	}
}

func TestThatPodsWhichAreNotKnownYetAreClosedAndOtherNodesLeftAlone(t *testing.T) {
	rules, _ := (&world{node: "n1", podCIDR: "10.0.0.0/24"}).ruleset()
	var body []string
	for _, line := range strings.Split(rules, "\n") {
		body = append(body, strings.TrimSpace(line))
	}
	want := []string{"ct state established,related accept", "ip daddr != 10.0.0.0/24 accept", "drop"}
	at := slices.Index(body, want[0])
	if at < 0 || !slices.Equal(body[at:at+3], want) {
		t.Errorf("the table is\n%s", rules)
	}
}
