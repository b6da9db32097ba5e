package ssh

import "slices"

// A use is what becomes of an option of ssh_config(5).
type use string

const (
	honoured use = "honoured"
	off      use = "switched off" // whatever the configuration says
	refused  use = "refused"      // where it is set, the connection is refused, with its name
	noEffect use = "no effect"
)

// An option is what becomes of one option of ssh_config(5).
type option struct {
	name string
	own  use    // by the connections of this package
	off  string // the value that ssh is given with Options.OpenSSH, in place of the configuration's
	note string
}

// sshOptions are all options of ssh_config(5), up to OpenSSH 10. What changes the session (a
// command of its own, forwarding, going to the background) is switched off, as the session is ours;
// what restricts is honoured, or refused where only the system's ssh can do it; what would ask
// somebody, or take a host key that nobody has looked at, is off.
func sshOptions() []option {
	return slices.Concat(hostOptions(), trustOptions(), loginOptions(), sessionOptions(),
		streamOptions())
}

// hostOptions say where a machine is and how it is reached.
func hostOptions() []option {
	return []option{
		{"AddressFamily", honoured, "", ""},
		{"BindAddress", honoured, "", "an address; a name is refused"},
		{"BindInterface", refused, "", ""},
		{"CanonicalDomains", honoured, "", "ssh -G resolves it"},
		{"CanonicalizeFallbackLocal", honoured, "", "likewise"},
		{"CanonicalizeHostname", honoured, "", "likewise"},
		{"CanonicalizeMaxDots", honoured, "", "likewise"},
		{"CanonicalizePermittedCNAMEs", honoured, "", "likewise"},
		{"ConnectionAttempts", noEffect, "1", "the daemon dials again by itself"},
		{"ConnectTimeout", honoured, "", "20 s if unset"},
		{"Host", honoured, "", ""},
		{"HostName", honoured, "", ""},
		{"IgnoreUnknown", honoured, "", ""},
		{"Include", honoured, "", ""},
		{"IPQoS", noEffect, "", ""},
		{"Match", honoured, "", ""},
		{"Port", honoured, "", ""},
		{"ProxyCommand", refused, "", "`--host` then takes the system's ssh by itself"},
		{"ProxyJump", honoured, "", ""},
		{"ProxyUseFdpass", noEffect, "", "belongs to ProxyCommand"},
		{"RefuseConnection", refused, "", ""},
		{"Tag", honoured, "", ""},
		{"TCPKeepAlive", noEffect, "", "connections have keepalives of their own"},
		{"User", honoured, "", ""},
		{"VersionAddendum", noEffect, "", ""},
	}
}

// trustOptions decide about host keys.
func trustOptions() []option {
	return []option{
		{"CASignatureAlgorithms", honoured, "", ""},
		{"CheckHostIP", honoured, "", ""},
		{"FingerprintHash", noEffect, "SHA256", "fingerprints are SHA256"},
		{"GlobalKnownHostsFile", honoured, "", ""},
		{"HashKnownHosts", honoured, "", "by `machine trust`, in a file that is empty"},
		{"HostKeyAlgorithms", honoured, "", ""},
		{"HostKeyAlias", honoured, "", ""},
		{"KnownHostsCommand", refused, "", ""},
		{"NoHostAuthenticationForLocalhost", off, "no", "host keys are always checked"},
		{"RequiredRSASize", honoured, "", "of host keys and our own"},
		{"RevokedHostKeys", honoured, "",
			"keys, or a KRL that ssh-keygen reads; a file that can't be read refuses every host"},
		{"StrictHostKeyChecking", off, "yes",
			"an unknown key is accepted by `machine trust` alone; with accept-new or no, the " +
				"error says so"},
		{"UpdateHostKeys", off, "no", "only `machine trust` records keys"},
		{"UserKnownHostsFile", honoured, "", "or `--known-hosts`"},
		{"VerifyHostKeyDNS", off, "no", "host keys are always checked"},
		{"VisualHostKey", noEffect, "no", ""},
		{"WarnWeakCrypto", noEffect, "", ""},
	}
}

// loginOptions decide how we log in.
func loginOptions() []option {
	return []option{
		{"AddKeysToAgent", noEffect, "no", ""},
		{"BatchMode", off, "yes", "nobody is there to be asked"},
		{"CertificateFile", honoured, "", ""},
		{"EnableSSHKeysign", noEffect, "", ""},
		{"GSSAPIAuthentication", noEffect, "", "Kerberos: `--transport openssh`"},
		{"GSSAPIClientIdentity", noEffect, "", "likewise"},
		{"GSSAPIDelegateCredentials", noEffect, "", "likewise; jobs may then use the ticket"},
		{"GSSAPIKexAlgorithms", noEffect, "", "likewise"},
		{"GSSAPIKeyExchange", noEffect, "", "likewise"},
		{"GSSAPIRenewalForcesRekey", noEffect, "", "likewise"},
		{"GSSAPIServerIdentity", noEffect, "", "likewise"},
		{"GSSAPITrustDNS", noEffect, "", "likewise"},
		{"HostbasedAcceptedAlgorithms", noEffect, "", "login by host: `--transport openssh`"},
		{"HostbasedAuthentication", noEffect, "", "likewise"},
		{"IdentitiesOnly", honoured, "", ""},
		{"IdentityAgent", honoured, "", ""},
		{"IdentityFile", honoured, "", "and `--identity`, before it"},
		{"KbdInteractiveAuthentication", noEffect, "", "nobody is there to be asked"},
		{"KbdInteractiveDevices", noEffect, "", "likewise"},
		{"NumberOfPasswordPrompts", noEffect, "", "likewise"},
		{"PasswordAuthentication", noEffect, "", "likewise"},
		{"PKCS11Provider", noEffect, "", "keys in hardware: by an agent, or `--transport openssh`"},
		{"PreferredAuthentications", refused, "", "only where it leaves out publickey"},
		{"PubkeyAcceptedAlgorithms", honoured, "", ""},
		{"PubkeyAuthentication", refused, "", "only where it is no"},
		{"SecurityKeyProvider", noEffect, "", "as PKCS11Provider"},
	}
}

// sessionOptions change the session, which is ours.
func sessionOptions() []option {
	return []option{
		{"ChannelTimeout", noEffect, "none", "streams may be silent"},
		{"ClearAllForwardings", off, "yes", ""},
		{"ControlMaster", noEffect, "no", ""},
		{"ControlPath", noEffect, "", "with `--transport openssh`, a master that runs is used"},
		{"ControlPersist", noEffect, "no", ""},
		{"DynamicForward", off, "", "by ClearAllForwardings"},
		{"EnableEscapeCommandline", off, "no", ""},
		{"EscapeChar", off, "none", ""},
		{"ExitOnForwardFailure", noEffect, "no", ""},
		{"ForkAfterAuthentication", off, "no", ""},
		{"ForwardAgent", off, "no", "jobs must not use your keys"},
		{"ForwardX11", off, "no", ""},
		{"ForwardX11Timeout", noEffect, "", ""},
		{"ForwardX11Trusted", noEffect, "no", ""},
		{"GatewayPorts", noEffect, "no", ""},
		{"LocalCommand", off, "", "by PermitLocalCommand"},
		{"LocalForward", off, "", "by ClearAllForwardings"},
		{"PermitLocalCommand", off, "no", ""},
		{"PermitRemoteOpen", noEffect, "", ""},
		{"RemoteCommand", off, "none", ""},
		{"RemoteForward", off, "", "by ClearAllForwardings"},
		{"RequestTTY", off, "no", ""},
		{"SendEnv", off, "", "jobs don't depend on where the daemon was started"},
		{"SessionType", off, "default", ""},
		{"SetEnv", honoured, "", "as far as the machine's sshd accepts it (AcceptEnv)"},
		{"StdinNull", off, "no", ""},
		{"StreamLocalBindMask", noEffect, "0177", ""},
		{"StreamLocalBindUnlink", noEffect, "no", ""},
		{"Tunnel", off, "no", ""},
		{"TunnelDevice", noEffect, "", ""},
		{"XAuthLocation", noEffect, "", ""},
	}
}

// streamOptions are about the bytes and about what ssh prints.
func streamOptions() []option {
	return []option{
		{"Ciphers", honoured, "", "those that this transport knows"},
		{"Compression", noEffect, "", ""},
		{"KexAlgorithms", honoured, "", "those that this transport knows"},
		{"LogLevel", noEffect, "INFO", ""},
		{"LogVerbose", noEffect, "none", ""},
		{"MACs", honoured, "", "those that this transport knows"},
		{"ObscureKeystrokeTiming", noEffect, "no", ""},
		{"RekeyLimit", noEffect, "", "keys are changed each GiB"},
		{"ServerAliveCountMax", off, "", "keepalives are the daemon's, each 15 s"},
		{"ServerAliveInterval", off, "", "likewise"},
		{"SyslogFacility", noEffect, "", ""},
	}
}

// switchedOff are the values that ssh is given in place of the configuration's, as NAME=VALUE. has
// tells whether the installed ssh knows an option.
func switchedOff(has func(name string) bool) []string {
	var args []string
	for _, o := range sshOptions() {
		if o.off != "" && has(o.name) {
			args = append(args, o.name+"="+o.off)
		}
	}
	return args
}
