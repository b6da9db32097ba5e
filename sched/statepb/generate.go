// Package statepb holds the records of the durable state, generated from state.proto without
// protoc.
package statepb

//go:generate go run ./gen
