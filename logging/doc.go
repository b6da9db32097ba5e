// Package logging reads the YAML configuration of Rust's log4rs 1.x and
// applies it to log/slog.
//
// A configuration has appenders (where lines go and how they look) and
// loggers (which lines go there). Loggers form a tree by their names, split
// at "::"; the daemon's own are server, server::sched, server::fleet and so
// on. In a configuration, expjobserver is another name for server.
//
// # Contract
//
// Open compiles the configuration; [Log.Logger] and [Named] give loggers,
// which any number of goroutines may use at the same time. Every record
// reaches an appender as one write of a whole line, made before the logging
// call returns: lines are never mixed, and nothing waits in a buffer. The
// order of lines in a file is the order of the writes.
//
// [Log.Run] looks at the configuration every refresh_rate, [Log.Reload] at
// once. A file that can't be parsed changes nothing. A part of it that can't
// be used (an unknown key in an appender, an unwritable path) is reported on
// stderr and left out, and the rest runs. Taking over a configuration loses no
// record: those on their way still reach the appenders that they were meant for.
//
// Logging itself never returns an error to the caller: an appender that can't
// write says so on stderr, at most once a minute.
//
// Text from outside (messages, attributes, names) can't start a new line or
// reach the terminal as an escape sequence: control characters are written
// as \n, \x1b and so on.
package logging
