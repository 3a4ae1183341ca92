package config

import (
	"crypto/tls"
	"reflect"
	"strings"
)

// resolveTLS lets the listeners inherit from the defaults what they do not set,
// and turns names of versions and suites into numbers.
func (l *loader) resolveTLS() {
	t := &l.settings.TLS
	for _, one := range []struct {
		key      string
		listener *TLSListener
	}{{"internal_rpc", &t.InternalRPC}, {"https", &t.HTTPS}, {"grpc", &t.GRPC}} {
		path := "tls." + one.key + "."
		if one.key != "internal_rpc" && l.isSet(path+"verify_server_hostname") && one.listener.VerifyServerHostname {
			l.wrongKey(path+"verify_server_hostname", "has a meaning for internal RPC only", "set tls.internal_rpc.verify_server_hostname")
		}
		if one.key == "grpc" && l.isSet(path+"verify_outgoing") && one.listener.VerifyOutgoing {
			l.wrongKey(path+"verify_outgoing", "has no meaning for gRPC, which only listens", "set tls.internal_rpc.verify_outgoing")
		}
		l.inherit(one.listener, path)
		if one.key != "internal_rpc" {
			one.listener.VerifyServerHostname = false
		}
		if one.key == "grpc" {
			one.listener.VerifyOutgoing = false
		}
		l.versions(one.listener, path)
	}
	// To check the name is to check the certificate.
	if t.InternalRPC.VerifyServerHostname {
		t.InternalRPC.VerifyOutgoing = true
	}
}

// inherit copies from the defaults what is not set under path, and with it where
// it was set.
func (l *loader) inherit(listener *TLSListener, path string) {
	from := reflect.ValueOf(&l.settings.TLS.Defaults).Elem()
	to := reflect.ValueOf(listener).Elem()
	for i := range to.NumField() {
		key := to.Type().Field(i).Tag.Get("conf")
		if key == "" || l.isSet(path+key) {
			continue
		}
		to.Field(i).Set(from.Field(i))
		if at, ok := l.set["tls.defaults."+key]; ok {
			l.set[path+key] = at
		}
	}
}

func (l *loader) versions(listener *TLSListener, path string) {
	switch strings.ToLower(listener.TLSMinVersion) {
	case "", "tls_auto", "tlsv1_2", "tls12":
		listener.MinVersion = tls.VersionTLS12
	case "tlsv1_3", "tls13":
		listener.MinVersion = tls.VersionTLS13
	case "tlsv1_0", "tlsv1_1", "tls10", "tls11":
		listener.MinVersion = tls.VersionTLS12
		l.warnings = append(l.warnings, path+"tls_min_version: versions before TLS 1.2 are not spoken; 1.2 is the least")
	default:
		l.wrongKey(path+"tls_min_version", quote(listener.TLSMinVersion)+" is no TLS version", "write TLS_AUTO, TLSv1_2 or TLSv1_3")
	}
	listener.CipherSuites = nil
	for name := range strings.SplitSeq(listener.TLSCipherSuites, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		id, ok := suite(name)
		if !ok {
			l.wrongKey(path+"tls_cipher_suites", quote(name)+" is no cipher suite that is spoken", "write names such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
			continue
		}
		listener.CipherSuites = append(listener.CipherSuites, id)
	}
}

// suite finds a cipher suite without known weaknesses by its name.
func suite(name string) (uint16, bool) {
	for _, s := range tls.CipherSuites() {
		// Two have a suffix in the standard that older files leave out.
		if s.Name == name || strings.HasSuffix(name, "_POLY1305") && s.Name == name+"_SHA256" {
			return s.ID, true
		}
	}
	return 0, false
}

func (l *loader) validateTLS() {
	s := l.settings
	l.validateListener("tls.internal_rpc.", s.TLS.InternalRPC, true, s.Server)
	l.validateListener("tls.https.", s.TLS.HTTPS, s.Ports.HTTPS > 0, true)
	l.validateListener("tls.grpc.", s.TLS.GRPC, s.Ports.GRPCTLS > 0, true)
	if s.Ports.HTTPS > 0 && s.TLS.HTTPS.CertFile == "" {
		l.wrongKey("ports.https", "needs a certificate", "set tls.https.cert_file and key_file, there or in tls.defaults")
	}
	if s.Ports.GRPCTLS > 0 && s.TLS.GRPC.CertFile == "" {
		l.wrongKey("ports.grpc_tls", "needs a certificate", "set tls.grpc.cert_file and key_file, there or in tls.defaults")
	}
	if s.Ports.GRPC > 0 && s.Ports.GRPCTLS < 0 && s.TLS.GRPC.CertFile != "" && !l.isSet("ports.grpc_tls") {
		l.wrongKey("ports.grpc", "is a port without TLS, while gRPC has a certificate", "set ports.grpc_tls too: a port, or -1 to go without TLS")
	}
}

// validateListener checks that a listener in use has what its rules need. One
// that is listening must show a certificate to those whose certificate it wants.
func (l *loader) validateListener(path string, t TLSListener, used, listens bool) {
	trusts := t.CAFile != "" || t.CAPath != ""
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		l.wrongKey(path+"cert_file", "is set without key_file", "set "+path+"key_file")
	case t.KeyFile != "" && t.CertFile == "":
		l.wrongKey(path+"key_file", "is set without cert_file", "set "+path+"cert_file")
	case !used:
	case t.VerifyIncoming && !trusts:
		l.wrongKey(path+"verify_incoming", "needs a CA to verify against", "set "+path+"ca_file or ca_path")
	case t.VerifyIncoming && listens && t.CertFile == "":
		l.wrongKey(path+"verify_incoming", "needs a certificate to show", "set "+path+"cert_file and key_file")
	case t.VerifyOutgoing && !trusts:
		key := "verify_outgoing"
		if !l.isSet(path + key) {
			key = "verify_server_hostname" // which implies it
		}
		l.wrongKey(path+key, "needs a CA to verify against", "set "+path+"ca_file or ca_path")
	}
}
