package api

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMaybe(t *testing.T) {
	type record struct {
		Code Maybe[int]    `json:"code,omitzero"`
		Text Maybe[string] `json:"text,omitzero"`
		Null Maybe[int]    `json:"null"`
	}
	tests := []struct {
		name  string
		value record
		json  string
	}{
		{"none", record{}, `{"null":null}`},
		{"zeros", record{Some(0), Some(""), Some(0)}, `{"code":0,"text":"","null":0}`},
		{"values", record{Some(-3), Some("a\"b"), Some(7)}, `{"code":-3,"text":"a\"b","null":7}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text, err := json.Marshal(test.value)
			if err != nil || string(text) != test.json {
				t.Errorf("JSON: got %s, %v", text, err)
			}
			fromJSON := record{Code: Some(9), Text: Some("stale"), Null: Some(9)}
			if test.name == "none" {
				fromJSON = record{Null: Some(9)} // what is absent stays as it was
			}
			if err := json.Unmarshal(text, &fromJSON); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.value, fromJSON); diff != "" {
				t.Errorf("from JSON (-want +got):\n%s", diff)
			}
			var wire bytes.Buffer
			if err := gob.NewEncoder(&wire).Encode(test.value); err != nil {
				t.Fatal(err)
			}
			var fromGob record
			if err := gob.NewDecoder(&wire).Decode(&fromGob); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.value, fromGob); diff != "" {
				t.Errorf("from gob (-want +got):\n%s", diff)
			}
		})
	}
	var m Maybe[int]
	if err := json.Unmarshal([]byte(`"seven"`), &m); err == nil || m.Set {
		t.Errorf("a string as a number: %+v, %v", m, err)
	}
	if value, ok := Some(0).Get(); value != 0 || !ok {
		t.Error("a zero that is there is taken for none")
	}
}
