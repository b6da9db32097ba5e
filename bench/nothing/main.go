// Command nothing does nothing: it is what the start of any program in Go can't go below.
package main

func main() {}
