package api

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

// messages has one of each type that crosses the socket as arguments or as a reply.
func messages() []any {
	return []any{
		&HelloArgs{},
		&HelloReply{},
		&Status{},
		&AddJobsArgs{},
		&AddJobsReply{},
		&AddMatrixArgs{},
		&AddMatrixReply{},
		&AddStagesArgs{},
		&AddStagesReply{},
		&ListJobsArgs{},
		&ListJobsReply{},
		&ChangeJobsArgs{},
		&ChangeJobsReply{},
		&JIDArgs{},
		&WhyReply{},
		&WhyManyArgs{},
		&WhyManyReply{},
		&Job{},
		&LogArgs{},
		&LogReply{},
		&FilesArgs{},
		&FilesReply{},
		&ReadFilesArgs{},
		&ReadFilesReply{},
		&WaitArgs{},
		&WaitReply{},
		&StopReply{},
		&EventsArgs{},
		&EventsReply{},
		&ListMachinesArgs{},
		&ListMachinesReply{},
		&AddMachinesArgs{},
		&AddProviderArgs{},
		&PartitionsArgs{},
		&PartitionsReply{},
		&SetupArgs{},
		&SetupReply{},
		&ChangeMachinesArgs{},
		&ChangeMachinesReply{},
		&CheckMachinesArgs{},
		&CheckMachinesReply{},
		&TrustArgs{},
		&TrustReply{},
		&ListMatricesArgs{},
		&ListMatricesReply{},
		&ChangeMatrixArgs{},
		&ChangeMatrixReply{},
		&MatrixCellsArgs{},
		&MatrixCellsReply{},
		&PutCodeArgs{},
		&PlacesArgs{},
		&PlacesReply{},
		&PutCodeReply{},
		&ChangesArgs{}, &ChangesReply{}, &MatrixMapArgs{}, &MatrixMapReply{}, &TimelineArgs{},
		&TimelineReply{},
		&ListResourcesReply{}, &SetResourceArgs{},
		&ListVarsReply{},
		&SetVarArgs{},
		&NewTagArgs{},
		&Tag{},
		&ListTagsArgs{},
		&ListTagsReply{},
		&CompleteArgs{},
		&CompleteReply{},
		&OutputArgs{},
		&OutputReply{},
	}
}

// TestMessagesAreAllThere notices a type of arguments or of a reply that messages lacks.
func TestMessagesAreAllThere(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range messages() {
		listed[reflect.TypeOf(m).Elem().Name()] = true
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				name := spec.Name.Name
				if (strings.HasSuffix(name, "Args") || strings.HasSuffix(name, "Reply")) &&
					ast.IsExported(name) &&
					!listed[name] {
					t.Errorf("messages lacks %s", name)
				}
			}
			return true
		})
	}
}

// TestZerosArrive: gob leaves out a zero that a pointer points to, as it does any other, so that
// what may be missing, and may be zero, is a Maybe. A time has no zero that means anything.
func TestZerosArrive(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(at string, typ reflect.Type)
	walk = func(at string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer:
			to := typ.Elem()
			if to != reflect.TypeFor[time.Time]() && to.Kind() != reflect.Struct {
				t.Errorf("%s is a %s: its zero wouldn't arrive; make it a Maybe", at, typ)
			}
			walk(at, to)
		case reflect.Slice, reflect.Array, reflect.Map:
			if typ.Elem().Kind() == reflect.Pointer {
				t.Errorf("%s is a %s: gob can't send a nil in it", at, typ)
			}
			walk(at+"[]", typ.Elem())
		case reflect.Struct:
			if seen[typ] {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				if f := typ.Field(i); f.IsExported() {
					walk(typ.Name()+"."+f.Name, f.Type)
				}
			}
		}
	}
	for _, m := range messages() {
		walk("", reflect.TypeOf(m).Elem())
	}
	if len(seen) < 100 {
		t.Errorf("only %d types were seen", len(seen))
	}
}

// fill gives every field of v a value that isn't its zero, and every slice and map n of them.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_700_000_000, 5).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range n {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(elem, n)
			key.SetString(fmt.Sprint("key", i))
			v.SetMapIndex(key, elem)
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-3)
	case reflect.Uint32, reflect.Uint64, reflect.Uint8:
		v.SetUint(3)
	case reflect.Float64:
		v.SetFloat(1.5)
	default:
		panic(v.Type())
	}
}

func gobOf(t testing.TB, value any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, value); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEveryMessagePasses: the scan lets every message of ours through, however full or empty it is,
// and so does the decoder after it.
func TestEveryMessagePasses(t *testing.T) {
	for _, message := range messages() {
		of := reflect.TypeOf(message).Elem()
		for _, n := range []int{0, 1, 3} {
			sent := reflect.New(of)
			if n > 0 {
				fill(sent.Elem(), n)
			}
			got := reflect.New(of)
			if err := decode(gobOf(t, sent.Interface()), got.Interface(), nil); err != nil {
				t.Errorf("%s with %d: %v", of, n, err)
			} else if diff := cmp.Diff(sent.Interface(), got.Interface()); diff != "" {
				t.Errorf("%s with %d (-sent +got):\n%s", of, n, diff)
			}
		}
	}
}

// TestManySmallValuesPass: what becomes much longer in memory than on the wire, and is honest.
func TestManySmallValuesPass(t *testing.T) {
	jobs := make([]JobSpec, 20_000)
	list := make([]Job, 1000)
	cells := make([]Cell, 1000)
	for i := range jobs {
		jobs[i] = JobSpec{Class: "c", Cmd: "true", Dir: "/"}
	}
	for i := range list {
		list[i] = Job{JID: uint64(i + 1), Status: "done", SubmittedAt: time.Unix(1, 0)}
	}
	for i := range cells {
		cells[i] = Cell{JID: uint64(i + 1), Status: "done", Index: []uint32{1, 2}}
	}
	for _, value := range []any{
		&AddJobsArgs{Jobs: jobs},
		&AddMatrixArgs{Matrix: MatrixSpec{Cells: make([]uint32, 3_000_000)}},
		&ListJobsReply{Jobs: list}, &MatrixCellsReply{Cells: cells},
		&ChangeJobsArgs{Selectors: make([]string, 100_000)},
		&LogReply{Data: make([]byte, 1<<20)},
	} {
		b := gobOf(t, value)
		cost, err := scanGob(b, reflect.TypeOf(value))
		if err != nil {
			t.Errorf("%T of %d bytes: %v", value, len(b), err)
		}
		t.Logf("%T: %d bytes become %d, %d times as many", value, len(b), cost, cost/len(b))
	}
}

// chain is a type that is in itself.
type chain struct{ Next *chain }

// nested is a chain that is so long; its value is written by hand, behind the definition of its
// type.
func nested(t testing.TB, depth int) []byte {
	definition, id := lastMessage(t, gobOf(t, &chain{}))
	id = id[:len(id)-1] // what ends an empty struct
	message := append(id, bytes.Repeat([]byte{1}, depth)...)
	message = append(message, make([]byte, depth+1)...)
	out := append(definition, 0xfc)
	return append(binary.BigEndian.AppendUint32(out, uint32(len(message))), message...)
}

// lastMessage splits a short gob before its last message, whose length is left out.
func lastMessage(t testing.TB, b []byte) (before, message []byte) {
	t.Helper()
	for rest := b; ; {
		s := &gobScanner{b: rest}
		n := s.length()
		if n == len(s.b) {
			return bytes.Clone(b[:len(b)-len(rest)]), bytes.Clone(s.b)
		}
		rest = s.b[n:]
	}
}

// TestHostileGobs: what encoding/gob would take, or wouldn't survive.
func TestHostileGobs(t *testing.T) {
	type one struct{ Class string }
	type strangers struct{ Jobs []one }
	type empty struct{ X []string }
	type anything struct{ Jobs any }
	type array struct{ Jobs [3]int }
	type complexes struct{ Jobs []complex128 }
	type deep struct {
		Jobs [][][][][][][][][][][][][][][][][]int
	}
	gob.Register(one{})
	valid := gobOf(t, &AddJobsArgs{Jobs: []JobSpec{{Class: "c"}}})
	definitions, _ := lastMessage(t, valid)
	counted := func(value any, from, to []byte) []byte {
		b := gobOf(t, value)
		if bytes.Count(b, from) != 1 {
			t.Fatalf("% x is not once in % x", from, b)
		}
		b = bytes.Replace(b, from, to, 1)
		return b
	}
	tests := []struct {
		name string
		gob  []byte
		want error
	}{
		{"nested 20 deep", nested(t, 20), errGobDepth},
		{"nested five million deep", nested(t, 5_000_000), errGobDepth},
		{
			"a million empty specs",
			gobOf(t, &AddJobsArgs{Jobs: make([]JobSpec, 1_000_000)}),
			errGobCost,
		},
		{
			"a million of another type in their place",
			gobOf(t, &strangers{Jobs: make([]one, 1_000_000)}),
			errGobCost,
		},
		{
			"a slice that is longer than the message",
			counted(
				&ChangeJobsArgs{Selectors: []string{"x", "y"}},
				[]byte{2, 1, 'x', 1, 'y'},
				[]byte{0x7f, 1, 'x', 1, 'y'},
			),
			errGobFormat,
		},
		{
			"a map that is longer than the message",
			counted(
				&JobSpec{Env: map[string]string{"x": "y"}},
				[]byte{1, 1, 'x', 1, 'y'},
				[]byte{0x7f, 1, 'x', 1, 'y'},
			),
			errGobFormat,
		},
		{
			"a string that is longer than the message",
			counted(&JobSpec{Class: "xyz"}, []byte{3, 'x', 'y', 'z'}, []byte{4, 'x', 'y', 'z'}),
			errGobFormat,
		},
		{"an interface", gobOf(t, &anything{Jobs: one{"x"}}), errGobKind},
		{"an array", gobOf(t, &array{[3]int{1, 2, 3}}), errGobKind},
		{"complex numbers", gobOf(t, &complexes{[]complex128{1}}), errGobKind},
		{
			"types in types",
			gobOf(t, &deep{Jobs: make([][][][][][][][][][][][][][][][][]int, 1)}),
			errGobDepth,
		},
		{
			"two values",
			append(bytes.Clone(valid), gobOf(t, &empty{[]string{"x"}})...),
			errGobFormat,
		},
		{"definitions without a value", definitions, errGobFormat},
		{
			"nothing but a length",
			[]byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			errGobFormat,
		},
		{"a number of nine bytes", []byte{0xf7, 0, 0, 0, 0, 0, 0, 0, 0, 1}, errGobFormat},
		{"a type that isn't defined", []byte{4, 0xff, 0x82, 0, 0}, errGobKind},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			defer budget.Hold(t, 1<<20)()
			err := decode(test.gob, &AddJobsArgs{}, nil)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestManyTypes(t *testing.T) {
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	fields := make([]reflect.StructField, maxScanTypes+1)
	for i := range fields {
		inner := reflect.StructOf(
			[]reflect.StructField{{Name: fmt.Sprintf("A%d", i), Type: reflect.TypeFor[int]()}},
		)
		fields[i] = reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: inner}
	}
	if err := enc.EncodeValue(reflect.New(reflect.StructOf(fields))); err != nil {
		t.Fatal(err)
	}
	if _, err := scanGob(b.Bytes(), nil); !errors.Is(err, errGobTypes) {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode holds the scan against the decoder: what it lets through takes no more memory than it
// says, and ends nobody.
func FuzzDecode(f *testing.F) {
	for i, message := range messages() {
		f.Add(uint8(i), gobOf(f, message))
		full := reflect.New(reflect.TypeOf(message).Elem())
		fill(full.Elem(), 2)
		f.Add(uint8(i), gobOf(f, full.Interface()))
	}
	f.Add(uint8(3), nested(f, 100))
	f.Add(uint8(3), gobOf(f, &AddJobsArgs{Jobs: make([]JobSpec, 3000)}))
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		all := messages()
		into := all[int(which)%len(all)]
		cost, err := scanGob(b, reflect.TypeOf(into))
		if err != nil {
			return
		}
		if cost > scanFactor*len(b)+scanStart {
			t.Fatalf("%d bytes may become %d", len(b), cost)
		}
		// The decoder's own machinery: it is compiled for each message, and doesn't depend on the
		// values.
		const machinery = 1 << 20
		defer budget.Hold(t, 2*cost+machinery)()
		_ = decode(b, into, nil)
	})
}

func BenchmarkScan(b *testing.B) {
	message := gobOf(
		b,
		&AddJobsArgs{Jobs: []JobSpec{{Class: "c", Cmd: "train --lr 0.1", Dir: "/home/exp"}}},
	)
	into := reflect.TypeFor[*AddJobsArgs]()
	for b.Loop() {
		if _, err := scanGob(message, into); err != nil {
			b.Fatal(err)
		}
	}
}
