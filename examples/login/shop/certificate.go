package shop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"time"
)

// newCertificate returns a certificate for localhost, and the authority that has
// signed it. Browsers bind sessions only where they trust the certificate. The key
// of the authority is gone when newCertificate returns, and the authority is
// constrained to localhost, so that whoever trusts it trusts this program and no
// other.
func newCertificate(now time.Time) (authority *x509.Certificate, certificate tls.Certificate, err error) {
	sign := func(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(30*24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
		if err != nil {
			return nil, err
		}
		return x509.ParseCertificate(der)
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, certificate, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, certificate, err
	}
	template := &x509.Certificate{
		SerialNumber:                big.NewInt(now.UnixNano()), // another one at each start
		Subject:                     pkix.Name{CommonName: "Marginalia, " + now.UTC().Format(time.DateTime)},
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost"},
	}
	if authority, err = sign(template, template, &authorityKey.PublicKey, authorityKey); err != nil {
		return nil, certificate, err
	}
	leaf, err := sign(&x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, &key.PublicKey, authorityKey)
	if err != nil {
		return nil, certificate, err
	}
	return authority, tls.Certificate{Certificate: [][]byte{leaf.Raw, authority.Raw}, PrivateKey: key}, nil
}

// explainTrust writes the certificate of the authority to a file, and tells how
// a browser is made to trust it and to bind sessions.
func explainTrust(out io.Writer, authority *x509.Certificate, url string) (file string, err error) {
	f, err := os.CreateTemp("", "marginalia-*.pem")
	if err != nil {
		return "", err
	}
	err = pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return f.Name(), err
	}
	key := sha256.Sum256(authority.RawSubjectPublicKeyInfo)
	_, err = fmt.Fprintf(out, `
Browsers bind sessions only if they trust the certificate of this site. Its
authority, made for this run and for localhost alone, is the file
  %[1]s
Chrome on Windows, or on a Mac with Apple silicon: import the file, restart Chrome.
Chromium on Linux keeps keys in software, for a test, in a profile of its own:
  chromium --user-data-dir=$HOME/.marginalia \
    --enable-features=DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting \
    --ignore-certificate-errors-spki-list=%[2]s \
    %[3]s
or, in place of the third flag, trust the file (certutil is in libnss3-tools):
  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n marginalia -i %[1]s
Its page "Where you are signed in" shows which sessions are bound.

`, f.Name(), base64.StdEncoding.EncodeToString(key[:]), url)
	return f.Name(), err
}
