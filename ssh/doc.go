// Package ssh connects to machines: it resolves addresses through the user's
// ssh configuration, checks host keys, logs in with keys and agents, passes
// jump hosts, and notices when a connection has died.
//
// What works with the user's own ssh works here without further setup: the
// configuration is the one that `ssh -G HOST` prints. The differences are
// deliberate:
//
//   - Host keys are always checked, as with StrictHostKeyChecking=yes. Unknown
//     ones are only ever accepted through Trust.
//   - Nothing is asked for: no passwords, no passphrases, no confirmations.
//   - Keys of IdentityFile are offered before other keys of the agent, since
//     sshd ends a login after 6 keys.
//   - ProxyCommand, Kerberos and second factors need Options.OpenSSH, with
//     which the system's ssh makes the connections behind the same interface.
//
// A Dialer holds the limits: 32 dials at a time, 4 of them to the same address
// (sshd drops connections at random from 10 unauthenticated ones on). Each jump
// host counts by itself, and what waits for its address counts nowhere. Nothing
// here retries. IsPermanent tells which errors only a change can cure; the
// caller waits and dials again after all others.
//
// A lost connection is never reported as a failed command: it is a *LostError,
// and what became of the command is unknown.
package ssh
