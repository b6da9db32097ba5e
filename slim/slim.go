// Package slim has the slim agents (its program) inside: for each kind of machine one, compressed.
// A release is built with the tag slim, after `go run ./release agents` has made them. Without the
// tag there are none: then the program itself is the agent of machines like this one, and files
// beside it are those of others.
package slim
