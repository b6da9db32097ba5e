package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFindGPUs: devices are found in what the kernel says, by ids that never change.
func TestFindGPUs(t *testing.T) {
	const one, two = "GPU-11111111-2222-3333-4444-555555555555",
		"GPU-99999999-2222-3333-4444-555555555555"
	information := func(id string) string {
		return "Model: \t\t NVIDIA H200\nIRQ:   \t\t 42\nGPU UUID: \t " + id +
			"\nBus Location: \t 0000:01:00.0\n"
	}
	amd := func(unique string) string {
		return "cpu_cores_count 0\nsimd_count 440\nlocation_id 768\ndomain 0\nunique_id " + unique +
			"\n"
	}
	tests := []struct {
		name  string
		files map[string]string
		smi   string
		want  []GPU
	}{
		{"none", nil, "", nil},
		{"two of NVIDIA, by their places on the bus", map[string]string{
			"proc/driver/nvidia/gpus/0000:41:00.0/information": information(one),
			"proc/driver/nvidia/gpus/0000:01:00.0/information": information(two),
		}, "", []GPU{{two, VendorNVIDIA}, {one, VendorNVIDIA}}},
		{
			"one asleep",
			map[string]string{
				"proc/driver/nvidia/gpus/0000:01:00.0/information": information(
					"GPU-????????-????-????",
				),
			},
			"00000000:01:00.0, " + one + "\n",
			[]GPU{{one, VendorNVIDIA}},
		},
		{
			"one asleep that nobody can ask",
			map[string]string{
				"proc/driver/nvidia/gpus/0000:01:00.0/information": information(
					"GPU-????????-????-????",
				),
			},
			"",
			[]GPU{{"0000:01:00.0", VendorNVIDIA}},
		},
		{"WSL", map[string]string{"dev/dxg": ""}, "0:2, " + two + "\n0:1, " + one + "\n",
			[]GPU{{one, VendorNVIDIA}, {two, VendorNVIDIA}}},
		{"nvidia-smi fails", map[string]string{"dev/dxg": ""}, "No devices were found\n", nil},
		{"AMD", map[string]string{
			"sys/class/kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 64\nsimd_count 0\n",
			"sys/class/kfd/kfd/topology/nodes/1/properties": amd("1234605616436508552"),
		}, "", []GPU{{"GPU-1122334455667788", VendorAMD}}},
		{"AMD without an id", map[string]string{
			"sys/class/kfd/kfd/topology/nodes/1/properties": amd("0"),
		}, "", []GPU{{"bus-000300", VendorAMD}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := findGPUs(root, func() []GPU { return parseSMI(tt.smi) })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			var f, back Facts
			f.GPUs = got
			if err := decode(
				encode(f.fields),
				back.fields,
			); err != nil ||
				!cmp.Equal(f.GPUs, back.GPUs) {
				t.Errorf("%v goes as %v: %v", f.GPUs, back.GPUs, err)
			}
		})
	}
}
