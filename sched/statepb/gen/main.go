// Command gen compiles state.proto to state.pb.go with a protobuf compiler written in Go, so that
// `go generate` needs nothing but Go.
package main

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	gengo "google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const source = "state.proto"

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate() error {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), source)
	if err != nil {
		return err
	}
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{source},
		ProtoFile: []*descriptorpb.FileDescriptorProto{
			protoutil.ProtoFromFileDescriptor(files[0]),
		},
		Parameter: proto.String("paths=source_relative"),
	})
	if err != nil {
		return err
	}
	for _, f := range plugin.Files {
		if f.Generate {
			gengo.GenerateFile(plugin, f)
		}
	}
	for _, f := range plugin.Response().File {
		content, err := whenNeeded(f.GetContent())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Base(f.GetName()), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// What the compiler writes, and what it becomes.
const (
	builtAtStart = "func init() { file_state_proto_init() }\nfunc file_state_proto_init() {\n" +
		"\tif File_state_proto != nil {\n\t\treturn\n\t}\n"
	builtOnce = "var file_state_proto_once sync.Once\n\n" +
		"// file_state_proto_init is called before anything that looks at a descriptor.\n" +
		"func file_state_proto_init() { file_state_proto_once.Do(file_state_proto_build) }\n\n" +
		"func file_state_proto_build() {\n"
)

// describes matches the beginning of a function that looks at a descriptor.
var describes = regexp.MustCompile(`(?m)^func \(.*\) (ProtoReflect\(\) protoreflect\.Message|` +
	`Descriptor\(\) protoreflect\.EnumDescriptor|Type\(\) protoreflect\.EnumType) \{$`)

// whenNeeded has the descriptors of the records built when one is first looked at, and not at each
// start of the program: a client has no records, and building them is a tenth of its start.
func whenNeeded(code string) ([]byte, error) {
	if strings.Count(code, builtAtStart) != 1 {
		return nil, errors.New("the generated code doesn't begin to build its descriptors as it " +
			"did: see whenNeeded")
	}
	code = strings.Replace(code, builtAtStart, builtOnce, 1)
	code = describes.ReplaceAllString(code, "$0\n\tfile_state_proto_init()")
	return format.Source([]byte(code))
}
