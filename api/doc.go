// Package api is what crosses the daemon's socket: the requests and replies, the kinds of errors,
// the handshake, the typed client and the serving loop.
//
// # The wire
//
// Calls are net/rpc's: a request has a number, a method and its arguments, a response the same
// number and a reply or an error, in any order. Each message is one frame: its length in four
// bytes, big end first, a small header, and the body as a gob stream of its own. That frames stand
// alone is what makes the limits simple: a length is checked before anything is allocated, type
// definitions end with their message, and an answer that turns out too big or can't be encoded is
// replaced by an error without upsetting the stream. It costs a client of many calls about 0.1 ms
// each, and commands, which make one call a connection, nothing.
//
// Both sides are net/rpc's, with codecs of ours over the frames: the client its Client, the daemon
// a Server for each connection, which registers the methods that ServerOptions.Register makes for
// that peer and the connection's context. Hello is answered before the Server begins. What a Server
// would do to a handler's panic (end the process) and to its error (keep only the text), Handle
// prevents, by registering every method inside a guard.
//
// # Contract
//
//   - The first call is Hello; anything else before it is refused. Methods and fields are only
//     added; a change that an older side would misread raises MaxProtocol.
//   - Calls on one connection run at the same time, and their order isn't kept.
//   - An error arrives as the *Error that it was, whatever wrapped it: kind, whole message and
//     hint. An error of another type arrives with the kind that KindOf gives it.
//   - A handler that panics has that call answered with Internal, and the stack goes to the log.
//   - A request is at most 1 MiB, or what maxRequestOf allows its method, and must arrive at a rate
//     of at least 64 KiB/s once it has begun. It is scanned before it is decoded: see scanGob. An
//     answer is at most 32 MiB; of one that is being read something must be taken within 10 s.
//   - Requests, as they are in memory, and answers share 32 MiB over all connections; see room. A
//     connection that holds much of it while others wait is ended.
//   - A connection that says nothing for 5 s is ended, and sooner when there are very many; of
//     those that have said hello, an idle one makes way for another when there are too many.
//   - The daemon answers its own user and root alone, and the client speaks to its own user's and
//     root's daemon alone.
//   - Arguments that change something embed Mutation. The client gives them a random id before the
//     first try and keeps it in repeats, so that a call whose answer was lost can be asked again:
//     it answers as before and changes nothing more. Everything else only reads. So a client that
//     can dial again repeats whatever a lost connection interrupted.
//   - When the daemon can't be reached again, a read, or a call that never left, ends in
//     Unavailable; a mutation that was sent ends in OutcomeUnknown.
//
// gob leaves out zero values, behind pointers too: a *int that points to 0 arrives as nil. Hence
// Maybe.
package api
