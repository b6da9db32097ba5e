package main

import (
	"debug/buildinfo"
	"encoding/json"
	"time"
)

// component is a part of the program, as CycloneDX 1.5 lists it.
type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl,omitempty"`
}

// billOfMaterials lists the modules that are linked into a program, out of the program itself:
// CycloneDX 1.5.
func billOfMaterials(program, name string, r *release) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	parts := []component{
		{
			"framework",
			"go",
			info.GoVersion[len("go"):],
			"pkg:golang/std@" + info.GoVersion[len("go"):],
		},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(
			parts,
			component{"library", m.Path, m.Version, "pkg:golang/" + m.Path + "@" + m.Version},
		)
	}
	bill := map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": map[string]any{
			"timestamp": r.time.Format(time.RFC3339),
			"component": component{Type: "application", Name: name, Version: r.version},
		},
		"components": parts,
	}
	out, err := json.MarshalIndent(bill, "", "  ")
	return append(out, '\n'), err
}
