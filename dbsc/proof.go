package dbsc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/typedsessions/sessions/internal/wire"
)

// maxProof bounds a proof, in characters. Those of Chromium take about 520 in
// a registration and 220 in a refresh.
const maxProof = 4096

// A publicKey is the point of P-256 that a browser has made, in the compressed
// form of SEC 1, section 2.3.3: 02 or 03 ‖ x. It travels in every request of
// a session without a Store.
type publicKey [33]byte

// A proof is the JWT that a browser signs with the key of a session. Its claims
// are as they came: parseProof verifies no signature.
type proof struct {
	key       *publicKey // of a registration, nil in a refresh
	challenge string

	signed    string // header.claims
	signature [64]byte
}

// parseProof reads a proof. It refuses what no browser sends. What it does not
// know it ignores, as the draft asks for. Its errors show no part of the proof.
func parseProof(jwt string) (*proof, error) {
	if len(jwt) > maxProof {
		return nil, fmt.Errorf("the proof has %d characters, at most %d are read", len(jwt), maxProof)
	}
	header, rest, _ := strings.Cut(jwt, ".")
	claims, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return nil, errors.New("the proof is no JWT: need three parts with two dots between them")
	}
	p := &proof{signed: jwt[:len(header)+1+len(claims)]}
	h, err := object(header)
	if err != nil {
		return nil, fmt.Errorf("header of the proof: %w", err)
	}
	if typ := text(h["typ"]); typ != "dbsc+jwt" {
		return nil, fmt.Errorf(`typ of the proof: need "dbsc+jwt" (before October 2025, browsers sent "jwt")`)
	}
	switch alg := text(h["alg"]); alg {
	case "ES256":
	case "none", "RS256":
		return nil, fmt.Errorf("alg of the proof: %s was not offered, need ES256", alg)
	default:
		return nil, errors.New("alg of the proof: need ES256")
	}
	if h["crit"] != nil {
		return nil, errors.New("crit of the proof: no extension of JWT is known here (RFC 7515, section 4.1.11)")
	}
	if jwk := h["jwk"]; jwk != nil {
		if p.key, err = parseKey(jwk); err != nil {
			return nil, fmt.Errorf("jwk of the proof: %w", err)
		}
	}
	c, err := object(claims)
	if err != nil {
		return nil, fmt.Errorf("claims of the proof: %w", err)
	}
	if p.challenge = text(c["jti"]); p.challenge == "" {
		return nil, errors.New("jti of the proof: need the challenge, a string")
	}
	raw, ok := wire.AppendToken(make([]byte, 0, 96), signature)
	if !ok || len(raw) != len(p.signature) {
		return nil, fmt.Errorf("signature of the proof: need %d bytes in base64url without padding (RFC 7518, section 3.4)", len(p.signature))
	}
	copy(p.signature[:], raw)
	return p, nil
}

// object decodes a part of a JWT. Member names count exactly, unlike in a struct.
func object(part string) (members map[string]json.RawMessage, err error) {
	b, ok := wire.AppendToken(nil, part)
	if !ok {
		return nil, errors.New("not base64url without padding")
	}
	if json.Unmarshal(b, &members) != nil || members == nil {
		return nil, errors.New("not a JSON object")
	}
	return members, nil
}

// text returns a JSON string, "" if it is none.
func text(raw json.RawMessage) (s string) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// privateMembers are those of RFC 7518, section 6, that a public key has not.
var privateMembers = []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"}

func parseKey(raw json.RawMessage) (*publicKey, error) {
	var jwk map[string]json.RawMessage
	if json.Unmarshal(raw, &jwk) != nil || jwk == nil {
		return nil, errors.New("not a JSON object")
	}
	for _, name := range privateMembers {
		if jwk[name] != nil {
			return nil, fmt.Errorf("it has the private member %q; that key is no secret any more", name)
		}
	}
	if text(jwk["kty"]) != "EC" || text(jwk["crv"]) != "P-256" {
		return nil, errors.New(`need kty "EC" and crv "P-256"`)
	}
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		b, ok := wire.AppendToken(make([]byte, 0, 48), text(jwk[name]))
		if !ok || len(b) != 32 {
			return nil, fmt.Errorf("%s: need 32 bytes in base64url without padding (RFC 7518, section 6.2.1)", name)
		}
		point = append(point, b...)
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
		return nil, errors.New("it is not a point of the curve P-256")
	}
	key := publicKey{2 | point[64]&1}
	copy(key[1:], point[1:33])
	return &key, nil
}

func (k *publicKey) ecdsa() (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), k[:])
	if x == nil {
		return nil, errors.New("not a point")
	}
	point := make([]byte, 65)
	point[0] = 4
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// verify reports whether the owner of key has signed p.
func (p *proof) verify(key *publicKey) bool {
	public, err := key.ecdsa()
	if err != nil {
		return false
	}
	hash := sha256.Sum256([]byte(p.signed))
	r, s := new(big.Int).SetBytes(p.signature[:32]), new(big.Int).SetBytes(p.signature[32:])
	return ecdsa.Verify(public, hash[:], r, s)
}
