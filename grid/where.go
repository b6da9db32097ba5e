package grid

import (
	"math"
	"strconv"
)

// Where is a condition on cells, such as `I<J`, `MODE!=exotic` or `I*J<=64 && (I>1 || J==2)`.
//
//	comparisons  <  <=  >  >=  ==  =  !=     of numbers as numbers, of two texts as texts
//	logic        &&  ||  !  ( )              or: and, or, not
//	arithmetic   +  -  *  /  %               of numbers
//
// A name is a variable's value, or REPEAT; other words, and what stands in quotes, are text.
type Where struct {
	eval   eval
	repeat bool
}

// value is a number or a text; what reads as a number is one. Conditions give truth.
type value struct {
	text   string
	number float64
	isNum  bool
	truth  bool
}

// eval gives the value of an expression in the cell of a row.
type eval func(row []uint32) (value, error)

// NamesRepeat says that rows must have the repeat at their end.
func (w *Where) NamesRepeat() bool { return w.repeat }

// Match says whether the condition holds in the cell of a row: an index into the values of each
// axis, and the repeat when the condition names it.
func (w *Where) Match(row []uint32) (bool, error) {
	v, err := w.eval(row)
	return v.truth, err
}

// Compile reads a condition on the variables of the axes.
func Compile(text string, axes []Axis) (*Where, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text, tokens: tokens, axes: axes}
	e, kind, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, p.wrong("%q is one too many", t.text)
	}
	if kind != truths {
		return nil, p.wrong("it is a value, and a condition is wanted").
			hint("compare it with something: I<J, MODE!=exotic")
	}
	return &Where{eval: e, repeat: p.repeat}, nil
}

// valueOf reads what a variable's value is: a number where it is a finite one.
func valueOf(text string) value {
	if numberRE().MatchString(text) {
		if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(f, 0) {
			return value{text: text, number: f, isNum: true}
		}
	}
	return value{text: text}
}

// kind tells what an expression gives.
type kind int

const (
	values kind = iota
	truths
)

// parser is a recursive descent over the tokens; depth bounds it.
type parser struct {
	text   string
	tokens []token
	axes   []Axis
	repeat bool
	depth  int
}

const maxDepth = 200

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) take() token {
	t := p.tokens[0]
	if t.kind != tokenEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) wrong(format string, args ...any) *Error {
	e := errorf(format, args...)
	e.Msg = "the condition " + strconv.Quote(p.text) + " can't be read: " + e.Msg
	return e
}

// truths needs both sides of a connective to be conditions.
func (p *parser) need(want, got kind, op string) error {
	switch {
	case want == got:
		return nil
	case want == truths:
		return p.wrong("%s takes conditions", op).hint("write I<8 && J<8, not I && J<8")
	}
	return p.wrong("%s takes values, not conditions", op)
}

func (p *parser) or() (eval, kind, error) { return p.connective("||", p.and, true) }

func (p *parser) and() (eval, kind, error) { return p.connective("&&", p.not, false) }

// connective reads a chain of conditions of which one that is decisive ends the look.
func (p *parser) connective(
	op string, next func() (eval, kind, error), decisive bool,
) (eval, kind, error) {
	left, k, err := next()
	for err == nil && p.peek().is(op) {
		p.take()
		right, rk, rerr := next()
		if rerr != nil {
			return nil, 0, rerr
		}
		if err := p.need(truths, k, op); err != nil {
			return nil, 0, err
		}
		if err := p.need(truths, rk, op); err != nil {
			return nil, 0, err
		}
		first := left
		left = func(row []uint32) (value, error) {
			v, err := first(row)
			if err != nil || v.truth == decisive {
				return v, err
			}
			return right(row)
		}
	}
	return left, k, err
}

func (p *parser) not() (eval, kind, error) {
	if !p.peek().is("!") {
		return p.comparison()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, 0, p.wrong("it is nested too deeply")
	}
	defer func() { p.depth-- }()
	p.take()
	e, k, err := p.not()
	if err == nil {
		err = p.need(truths, k, "!")
	}
	if err != nil {
		return nil, 0, err
	}
	return func(row []uint32) (value, error) {
		v, err := e(row)
		v.truth = !v.truth
		return v, err
	}, truths, nil
}

func (p *parser) comparison() (eval, kind, error) {
	left, k, err := p.sum()
	if err != nil || p.peek().kind != tokenCompare {
		return left, k, err
	}
	op := p.take().text
	right, rk, err := p.sum()
	if err != nil {
		return nil, 0, err
	}
	if err := p.need(values, k, op); err != nil {
		return nil, 0, err
	}
	if err := p.need(values, rk, op); err != nil {
		return nil, 0, err
	}
	if p.peek().kind == tokenCompare {
		return nil, 0, p.wrong("comparisons can't be chained").hint("write I<J && J<K")
	}
	return func(row []uint32) (value, error) {
		l, err := left(row)
		if err != nil {
			return value{}, err
		}
		r, err := right(row)
		if err != nil {
			return value{}, err
		}
		truth, err := compare(op, l, r)
		if err != nil {
			return value{}, p.wrong("%v", err)
		}
		return value{truth: truth}, nil
	}, truths, nil
}

// compare compares numbers as numbers and two texts as texts; a number and a text are only equal or
// not.
func compare(op string, l, r value) (bool, error) {
	order := 0
	switch {
	case l.isNum && r.isNum:
		switch {
		case l.number < r.number:
			order = -1
		case l.number > r.number:
			order = 1
		}
	case l.isNum != r.isNum && op != "==" && op != "!=":
		return false, errorf("%q and %q can't be ordered: one is a number, the other is not",
			l.text, r.text)
	case l.text < r.text:
		order = -1
	case l.text > r.text:
		order = 1
	}
	switch op {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	case ">=":
		return order >= 0, nil
	case "!=":
		return order != 0, nil
	}
	return order == 0, nil
}

func (p *parser) sum() (eval, kind, error) { return p.arithmetic("+-", p.product) }

func (p *parser) product() (eval, kind, error) { return p.arithmetic("*/%", p.factor) }

// arithmetic reads a chain of operators of one rank.
func (p *parser) arithmetic(ops string, next func() (eval, kind, error)) (eval, kind, error) {
	left, k, err := next()
	for err == nil && p.peek().kind == tokenArithmetic && containsByte(ops, p.peek().text[0]) {
		op := p.take().text[0]
		right, rk, rerr := next()
		if rerr != nil {
			return nil, 0, rerr
		}
		if k != values || rk != values {
			return nil, 0, p.need(values, truths, string(op))
		}
		first := left
		left = func(row []uint32) (value, error) {
			l, err := first(row)
			if err != nil {
				return value{}, err
			}
			r, err := right(row)
			if err != nil {
				return value{}, err
			}
			return p.calculate(op, l, r)
		}
	}
	return left, k, err
}

func containsByte(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

func (p *parser) calculate(op byte, l, r value) (value, error) {
	for _, v := range []value{l, r} {
		if !v.isNum {
			return value{}, p.wrong("%q is no number", v.text)
		}
	}
	var n float64
	switch op {
	case '+':
		n = l.number + r.number
	case '-':
		n = l.number - r.number
	case '*':
		n = l.number * r.number
	case '/':
		n = l.number / r.number
	case '%':
		n = math.Mod(l.number, r.number)
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return value{}, p.wrong("%s %c %s is no number", l.text, op, r.text)
	}
	return value{text: strconv.FormatFloat(n, 'g', -1, 64), number: n, isNum: true}, nil
}

// factor reads a value: a number, a text, a variable, a sign, or parentheses.
func (p *parser) factor() (eval, kind, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, 0, p.wrong("it is nested too deeply")
	}
	defer func() { p.depth-- }()
	t := p.take()
	switch {
	case t.is("("):
		e, k, err := p.or()
		if err == nil && !p.take().is(")") {
			err = p.wrong("a ( is never closed")
		}
		return e, k, err
	case t.kind == tokenArithmetic && t.text == "-":
		e, k, err := p.factor()
		if err == nil {
			err = p.need(values, k, "-")
		}
		if err != nil {
			return nil, 0, err
		}
		zero := value{text: "0", isNum: true}
		return func(row []uint32) (value, error) {
			v, err := e(row)
			if err != nil {
				return v, err
			}
			return p.calculate('-', zero, v)
		}, values, nil
	case t.kind == tokenText:
		return constant(value{text: t.text}), values, nil
	case t.kind == tokenWord:
		return p.word(t.text)
	case t.kind == tokenEnd:
		return nil, 0, p.wrong("it ends where a value is missing")
	}
	return nil, 0, p.wrong("a value is missing before %q", t.text)
}

func constant(v value) eval { return func([]uint32) (value, error) { return v, nil } }

// word is a number, a variable, or text. A name in capitals that is no variable is taken for a
// slip.
func (p *parser) word(text string) (eval, kind, error) {
	for at, a := range p.axes {
		if a.Name != text {
			continue
		}
		all := make([]value, len(a.Values))
		for i, v := range a.Values {
			all[i] = valueOf(v)
		}
		return func(row []uint32) (value, error) { return all[row[at]], nil }, values, nil
	}
	if text == Repeat {
		p.repeat = true
		at := len(p.axes)
		return func(row []uint32) (value, error) {
			n := row[at]
			return value{text: strconv.Itoa(int(n)), number: float64(n), isNum: true}, nil
		}, values, nil
	}
	if v := valueOf(text); v.isNum {
		return constant(v), values, nil
	}
	if IsName(text) && isCapital(text) {
		return nil, 0, unknown(text, "the condition "+strconv.Quote(p.text),
			append((&Grid{Axes: p.axes}).names(), Repeat))
	}
	return constant(value{text: text}), values, nil
}

func isCapital(s string) bool {
	letters := false
	for i := range len(s) {
		if 'a' <= s[i] && s[i] <= 'z' {
			return false
		}
		letters = letters || 'A' <= s[i] && s[i] <= 'Z'
	}
	return letters
}
