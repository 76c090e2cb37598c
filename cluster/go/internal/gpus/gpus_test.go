package gpus

import (
	"strings"
	"testing"
	"time"
)

var labels = map[string]string{LabelCount: "4", LabelProduct: "NVIDIA-H100-80GB-HBM3", LabelMemory: "81559"}

func TestReadTakesFaultsFromAnnotations(t *testing.T) {
	for sentence, test := range map[string]struct {
		annotations  map[string]string
		wantXIDs     [4]int
		wantHealthy  [4]bool
		wantProblems int
	}{
		"a node without annotations is well": {
			wantHealthy: [4]bool{true, true, true, true},
		},
		"XIDs are set by GPU index": {
			annotations: map[string]string{AnnotationXID: "1=79, 3=31"},
			wantXIDs:    [4]int{0, 79, 0, 31}, wantHealthy: [4]bool{true, true, true, true},
		},
		"listed GPUs are unhealthy": {
			annotations: map[string]string{AnnotationUnhealthy: "0,2"},
			wantHealthy: [4]bool{false, true, false, true},
		},
		"what cannot be read is told and changes nothing": {
			annotations: map[string]string{AnnotationXID: "9=79,1,x=2", AnnotationUnhealthy: "1=1"},
			wantHealthy: [4]bool{true, true, true, true}, wantProblems: 4,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			inventory, problems := Read("n", labels, test.annotations)
			if len(problems) != test.wantProblems {
				t.Errorf("problems %v, want %d", problems, test.wantProblems)
			}
			for i, gpu := range inventory.GPUs {
				if gpu.XID != test.wantXIDs[i] || gpu.Healthy != test.wantHealthy[i] {
					t.Errorf("GPU %d: XID %d healthy %t", i, gpu.XID, gpu.Healthy)
				}
			}
		})
	}
}

func TestUUIDsAreStableAndDistinct(t *testing.T) {
	one, _ := Read("a", labels, nil)
	again, _ := Read("a", labels, nil)
	other, _ := Read("b", labels, nil)
	if one.GPUs[0].UUID != again.GPUs[0].UUID {
		t.Error("another UUID for the same GPU")
	}
	if one.GPUs[0].UUID == one.GPUs[1].UUID || one.GPUs[0].UUID == other.GPUs[0].UUID {
		t.Error("one UUID for two GPUs")
	}
}

func TestMetricsNameTheOwnerAndAddUpToTheMemory(t *testing.T) {
	inventory, _ := Read("n", labels, map[string]string{AnnotationXID: "1=79", AnnotationUtilisation: "2=50"})
	owners := map[string]Owner{inventory.GPUs[0].UUID: {"team", "job-1-0", "trainer"}}
	var out strings.Builder
	if err := WriteMetrics(&out, inventory, owners, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`DCGM_FI_DEV_XID_ERRORS{gpu="1",UUID="` + inventory.GPUs[1].UUID + `",pci_bus_id="00000000:1F:00.0",device="nvidia1",` +
			`modelName="NVIDIA H100 80GB HBM3",Hostname="n",DCGM_FI_DRIVER_VERSION="` + driverVersion + `"} 79.000000`,
		`container="trainer",namespace="team",pod="job-1-0"} `,
		"# TYPE DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL counter",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	for _, gpu := range inventory.GPUs {
		_, owned := owners[gpu.UUID]
		now := read(gpu, owned, 81559, 1e9)
		if busy := now.utilisation > 80; busy != owned {
			t.Errorf("GPU %d: utilisation %f while owned is %t", gpu.Index, now.utilisation, owned)
		}
		sum := 0.0
		for _, metric := range metrics {
			if strings.HasPrefix(metric.name, "DCGM_FI_DEV_FB_") {
				sum += metric.value(gpu, now, 81559, 1e9)
			}
		}
		if sum != 81559 {
			t.Errorf("GPU %d: free, used and reserved add up to %f MiB", gpu.Index, sum)
		}
	}
}
