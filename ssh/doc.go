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
//   - What the configuration says of sessions (RemoteCommand, forwardings, agent
//     forwarding) is switched off: option.go has every option of ssh_config(5).
//   - ProxyCommand, Kerberos and second factors need Options.OpenSSH, with
//     which the system's ssh makes the connections behind the same interface.
//
// A Dialer holds the limits: 32 dials at a time, 4 of them to the same address
// (sshd drops connections at random from 10 unauthenticated ones on). Each jump
// host counts by itself, and what waits for its address counts nowhere. Nothing
// here retries. IsFinal tells which errors need somebody to change something; the
// caller dials again soon after all others, and now and then after those.
//
// A lost connection is never reported as a failed command: it is a *LostError,
// and what became of the command is unknown.
package ssh
