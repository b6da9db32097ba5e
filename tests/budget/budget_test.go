package budget

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// told is a test that keeps what it is told.
type told struct {
	testing.TB
	failed bool
}

func (t *told) Helper() {}

func (t *told) Errorf(string, ...any) { t.failed = true }

var held []byte // what is allocated for it can't be left out

// TestHold: what is within the budget passes, what is beyond it doesn't.
func TestHold(t *testing.T) {
	for _, tt := range []struct {
		size int
		over bool
	}{{1 << 10, false}, {4 << 20, true}} {
		var got told
		end := hold(&got, 1<<20)
		held = make([]byte, tt.size)
		end()
		if got.failed != tt.over {
			t.Errorf("%d bytes: failed is %t", tt.size, got.failed)
		}
	}
}

// TestEachTargetHasOne: every fuzz target of the module is held to a budget.
func TestEachTargetHasOne(t *testing.T) {
	targets := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets++
			if !holds(fn) {
				t.Errorf("%s: %s has no budget: its runs begin with defer budget.Hold(…)()", path,
					fn.Name.Name)
			}
		}
		return nil
	})
	if err != nil || targets < 40 {
		t.Errorf("%d targets, %v", targets, err)
	}
}

// holds tells whether a function calls budget.Hold.
func holds(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Hold" {
			if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "budget" {
				found = true
			}
		}
		return !found
	})
	return found
}
