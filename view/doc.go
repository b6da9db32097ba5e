// Package view turns what the daemon answers into what a user reads: tables that fit the terminal,
// JSON and CSV, colours, durations, sizes, times, the line of counts and the progress bar.
//
// Everything here is a function of its arguments: the terminal is looked at once, by DetectScreen,
// and the time of day is a parameter. Texts that come from outside (commands, names, output of
// machines) may hold anything, so a table cleans each cell (see Clean), and no line of a table is
// wider than its Width. Structured formats carry the text as it is, by their own rules of quoting,
// except that on a terminal CSV is cleaned too, and JSON escapes more than it has to.
package view
