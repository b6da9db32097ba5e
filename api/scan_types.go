package api

// The definitions of types in a gob, which are values of encoding/gob's own type wireType: a struct
// with a pointer for each kind of type, one of which is set.

// The fields of wireType.
const (
	wireArray = iota // no message has one
	wireSlice
	wireStruct
	wireMap
	wireGobEncoder
	wireBinaryMarshaler
	wireTextMarshaler // encoding/gob writes none
)

// typeCost is about what the decoder keeps of a type or a field, and of its name.
const typeCost = 256

// define reads the definition of the type with that id.
func (s *gobScanner) define(id int) {
	if id < gobFirst || s.types[id] != nil {
		s.fail(errGobFormat)
	}
	if len(s.types) >= maxScanTypes {
		s.fail(errGobTypes)
	}
	var t *gobType
	s.each(func(kind int) {
		if t != nil {
			s.fail(errGobFormat)
		}
		t = s.definition(kind)
	})
	if t == nil {
		s.fail(errGobFormat)
	}
	s.pay(1, typeCost)
	s.types[id] = t
}

// definition reads what one field of a wireType holds.
func (s *gobScanner) definition(kind int) *gobType {
	t := &gobType{}
	switch kind {
	case wireSlice:
		t.kind = gobSlice
	case wireStruct:
		t.kind = gobStruct
	case wireMap:
		t.kind = gobMap
	case wireGobEncoder, wireBinaryMarshaler:
		t.kind = gobOpaque
	default:
		s.fail(errGobKind)
	}
	s.each(func(field int) {
		switch {
		case field == 0:
			s.name()
		case t.kind == gobSlice && field == 1, t.kind == gobMap && field == 2:
			t.elem = s.int()
		case t.kind == gobMap && field == 1:
			t.key = s.int()
		case t.kind == gobStruct && field == 1:
			s.fields(t)
		default:
			s.fail(errGobFormat)
		}
	})
	return t
}

// name reads a CommonType: the type's name and its id once more.
func (s *gobScanner) name() {
	s.each(func(field int) {
		switch field {
		case 0:
			s.pay(len(s.take(s.length())), 1)
		case 1:
			s.int()
		default:
			s.fail(errGobFormat)
		}
	})
}

// fields reads the fields of a struct type, each of them a name and a type's id.
func (s *gobScanner) fields(t *gobType) {
	n := s.length()
	if n > maxScanFields {
		s.fail(errGobTypes)
	}
	s.pay(n, typeCost)
	for range n {
		var f gobField
		s.each(func(field int) {
			switch field {
			case 0:
				f.name = string(s.take(s.length()))
				s.pay(len(f.name), 1)
			case 1:
				f.id = s.int()
			default:
				s.fail(errGobFormat)
			}
		})
		t.fields = append(t.fields, f)
	}
}

// depth is how many types are in each other in t. It is asked when all of them are defined.
func (s *gobScanner) depth(t *gobType) int {
	switch {
	case t.depth > 0:
		return t.depth
	case t.depth < 0:
		s.fail(errGobDepth)
	}
	t.depth = -1
	deepest := 0
	look := func(id int) {
		if id < gobFirst {
			if id < gobBool || id > gobString {
				s.fail(errGobKind)
			}
			return
		}
		inner := s.types[id]
		if inner == nil {
			s.fail(errGobKind)
		}
		deepest = max(deepest, s.depth(inner))
	}
	switch t.kind {
	case gobSlice:
		look(t.elem)
	case gobMap:
		look(t.key)
		look(t.elem)
	case gobStruct:
		for _, f := range t.fields {
			look(f.id)
		}
	}
	t.depth = deepest + 1
	return t.depth
}
