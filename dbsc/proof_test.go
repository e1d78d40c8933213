package dbsc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
)

// rfcKey is the key of RFC 6979, A.2.5.
func rfcKey(t testing.TB) *ecdsa.PrivateKey {
	d, _ := hex.DecodeString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const (
	v1 = "eyJhbGciOiJFUzI1NiIsImp3ayI6eyJjcnYiOiJQLTI1NiIsImt0eSI6IkVDIiwieCI6IllQN1V1aVZhblRISllldDB4alZ0YU1CSnVKSTdZZnBzNW1saUxtRHluN1kiLCJ5IjoiZVFQLUVBaTR2Sm1rR3VucFZpaThaUEx4c2d3dGZwOVJkNlBDbE5SR0lwayJ9LCJ0eXAiOiJkYnNjK2p3dCJ9.eyJhdXRob3JpemF0aW9uIjoiYWMiLCJqdGkiOiJjdiJ9.NGddDYqxkdcAKOQLw7D0q_d2mh-54BBvS8PpSqCSLwYHKiVvCSJidsOAcRGAS3d_j5EZ_Bn7gbO3AAS8TlKHIA"
	v2 = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImRic2Mrand0In0.eyJqdGkiOiJydiJ9.TvZMa0gWOwLAqU0eekzdNw2--KFv78lEf0CwsU3sSDj4oIL6w8UI7GGV28XjdOjXhcfxmu92ucaMs0kKnQo8-g"
	// Of Chromium 156.0.8078.108.
	v3a = "eyJhbGciOiJFUzI1NiIsImp3ayI6eyJjcnYiOiJQLTI1NiIsImt0eSI6IkVDIiwieCI6ImJWajR2dVd4WnJ4eUpjUmhhSW9oOXdfOGZiWUVQTXozWHBwUmhEaGE3LTQiLCJ5IjoiWkdMS0Fzc3FTQWhVZDdoNjMxclV0SWpLTFlNaThRd0MwZDVfSkFYZTFYTSJ9LCJ0eXAiOiJkYnNjK2p3dCJ9.eyJhdXRob3JpemF0aW9uIjoiYXV0aC0xIiwianRpIjoiY2hhbGxlbmdlLTEtMTc5NjAxMDIwNTQyMzExODU1MSJ9.KWHJT8TCC3XY0IgZTf2AcFiF2W48derEBVZKzSXddBDgtXVyzvRl8ldnYNrA2UearIpYs2degaoa6VUeob_Gaw"
	v3b = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImRic2Mrand0In0.eyJqdGkiOiJjaGFsbGVuZ2UtMi0xNzk2MDEwMjA1NDc0MTIyMzI1In0.nxZGHTb_EhXykyHxKsNszBj-PxP1E4kG2E32-ZRdiLuVMn9ErA1LchVuZAZ69MT2eugo1v1CxS7_FoUPekf3fg"
)

func TestKnownProofs(t *testing.T) {
	registered := map[string]*publicKey{}
	for _, tt := range []struct {
		name, proof, challenge, of string // of: the registration whose key signed it
	}{
		{"V1, a registration", v1, "cv", v1},
		{"V2, a refresh", v2, "rv", v1},
		{"V3, a registration by Chromium 156", v3a, "challenge-1-1796010205423118551", v3a},
		{"V3, a refresh by Chromium 156", v3b, "challenge-2-1796010205474122325", v3a},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parseProof(tt.proof)
			if err != nil {
				t.Fatal(err)
			}
			if p.challenge != tt.challenge {
				t.Errorf("got the challenge %q, want %q", p.challenge, tt.challenge)
			}
			if (p.key != nil) != (tt.of == tt.proof) {
				t.Errorf("it has a key: %v", p.key != nil)
			}
			if p.key != nil {
				registered[tt.proof] = p.key
			}
			if !p.verify(registered[tt.of]) {
				t.Error("its own key does not verify it")
			}
			for other, key := range registered {
				if other != tt.of && p.verify(key) {
					t.Error("another key verifies it")
				}
			}
		})
	}
	if got := Sign(rfcKey(t), true, "cv", "ac"); got != v1 {
		t.Errorf("the simulated browser makes %s of V1", got)
	}
	if got := Sign(rfcKey(t), false, "rv", ""); got != v2 {
		t.Errorf("the simulated browser makes %s of V2", got)
	}
}

func TestProofsThatAreRefused(t *testing.T) {
	key := rfcKey(t)
	with := func(name string, value any) map[string]any {
		h := map[string]any{"alg": "ES256", "typ": "dbsc+jwt", "jwk": JWK(key)}
		if h[name] = value; value == nil {
			delete(h, name)
		}
		return h
	}
	jwk := func(name string, value any) map[string]any {
		j := maps.Clone(JWK(key))
		if j[name] = value; value == nil {
			delete(j, name)
		}
		return with("jwk", j)
	}
	jti := map[string]any{"jti": "cv"}
	header, _, _ := strings.Cut(v1, ".")
	claims := strings.Split(v1, ".")[1]
	signature := strings.Split(v1, ".")[2]
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	part := base64.RawURLEncoding.EncodeToString
	small := map[string]any{"kty": "RSA", "n": part(raw), "e": "AQAB"}
	for _, tt := range []struct{ name, proof, want string }{
		{"nothing", "", "three parts"},
		{"two parts", header + "." + claims, "three parts"},
		{"four parts", v1 + ".", "three parts"},
		{"a megabyte", strings.Repeat("a", 1<<20), "at most 4096"},
		{"a header that is no base64", "!" + v1, "not base64url"},
		{"a padded header", strings.Replace(v1, ".", "==.", 1), "not base64url"},
		{"a header with a line break", "\n" + v1, "not base64url"},
		{"a header that is no object", part([]byte(`[]`)) + "." + claims + "." + signature, "not a JSON object"},
		{"a header that is null", part([]byte(`null`)) + "." + claims + "." + signature, "not a JSON object"},
		{"a header with something behind", part([]byte(`{} {}`)) + "." + claims + "." + signature, "not a JSON object"},
		{"a header nested deep", part([]byte(strings.Repeat("[", 2000))) + "." + claims + "." + signature, "not a JSON object"},
		{"typ of before October 2025", SignParts(key, with("typ", "jwt"), jti), "typ of the proof"},
		{"no typ", SignParts(key, with("typ", nil), jti), "typ of the proof"},
		{"alg none", SignParts(key, with("alg", "none"), jti), "none was not offered"},
		{"alg none without a signature", part([]byte(`{"alg":"none","typ":"dbsc+jwt"}`)) + "." + claims + ".", "none was not offered"},
		{"alg RS256", SignParts(key, with("alg", "RS256"), jti), "RS256 was not offered"},
		{"alg RS256 with a key of 512 bits", SignParts(key, map[string]any{"alg": "RS256", "typ": "dbsc+jwt", "jwk": small}, jti), "RS256 was not offered"},
		{"a key of RSA with 512 bits", SignParts(key, with("jwk", small), jti), `need kty "EC"`},
		{"alg of another case", SignParts(key, with("alg", "es256"), jti), "need ES256"},
		{"alg in capitals", SignParts(key, map[string]any{"ALG": "ES256", "typ": "dbsc+jwt"}, jti), "need ES256"},
		{"no alg", SignParts(key, with("alg", nil), jti), "need ES256"},
		{"an extension that must be known", SignParts(key, with("crit", []string{"b64"}), jti), "crit"},
		{"a key that is no object", SignParts(key, with("jwk", "x"), jti), "jwk of the proof"},
		{"a key with its private half", SignParts(key, jwk("d", "yQ"), jti), `private member "d"`},
		{"a symmetric key", SignParts(key, jwk("k", "yQ"), jti), `private member "k"`},
		{"an RSA key", SignParts(key, jwk("kty", "RSA"), jti), `need kty "EC"`},
		{"a key of another curve", SignParts(key, jwk("crv", "P-384"), jti), `need kty "EC"`},
		{"a key without y", SignParts(key, jwk("y", nil), jti), "y: need 32 bytes"},
		{"a key of 31 bytes", SignParts(key, jwk("x", part(raw[:31])), jti), "x: need 32 bytes"},
		{"a padded key", SignParts(key, jwk("x", JWK(key)["x"].(string)+"="), jti), "x: need 32 bytes"},
		{"a point off the curve", SignParts(key, jwk("x", JWK(key)["y"]), jti), "not a point"},
		{"the point zero", SignParts(key, with("jwk", map[string]any{"kty": "EC", "crv": "P-256", "x": part(make([]byte, 32)), "y": part(make([]byte, 32))}), jti), "not a point"},
		{"no jti", SignParts(key, with("x", 1), map[string]any{}), "jti of the proof"},
		{"an empty jti", SignParts(key, with("x", 1), map[string]any{"jti": ""}), "jti of the proof"},
		{"a jti that is a number", SignParts(key, with("x", 1), map[string]any{"jti": 1}), "jti of the proof"},
		{"a signature of 63 bytes", header + "." + claims + "." + part(raw[:63]), "need 64 bytes"},
		{"a signature of 65 bytes", header + "." + claims + "." + part(append(slices.Clone(raw), 0)), "need 64 bytes"},
		{"a signature in DER", header + "." + claims + "." + part(append([]byte{0x30, 0x44, 2, 0x20}, raw...)), "need 64 bytes"},
		{"a signature with stray bits", v1[:len(v1)-1] + "B", "need 64 bytes"},
		{"a signature in the standard alphabet", header + "." + claims + "." + base64.RawStdEncoding.EncodeToString(raw), "need 64 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseProof(tt.proof)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestProofsThatDoNotVerify(t *testing.T) {
	key, other := rfcKey(t), newKey(t)
	mine, err := parseProof(v1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, proof string }{
		{"of another key", Sign(other, false, "rv", "")},
		{"of another challenge under the same signature", strings.Replace(v2, "eyJqdGkiOiJydiJ9", "eyJqdGkiOiJyeCJ9", 1)},
		{"with r and s zero", v2[:strings.LastIndex(v2, ".")+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))},
		{"with its own key in place of that of the session", SignParts(other, map[string]any{"alg": "ES256", "typ": "dbsc+jwt", "jwk": JWK(other)}, map[string]any{"jti": "rv"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parseProof(tt.proof)
			if err != nil {
				t.Fatal(err)
			}
			if p.verify(mine.key) {
				t.Error("it verifies")
			}
		})
	}
	extras := SignParts(key, map[string]any{"alg": "ES256", "typ": "dbsc+jwt", "kid": "1", "x5c": []string{}},
		map[string]any{"jti": "rv", "aud": "https://elsewhere.test", "iat": 1, "exp": 1, "sub": "x", "key": JWK(other)})
	p, err := parseProof(extras)
	if err != nil || !p.verify(mine.key) {
		t.Errorf("a proof with members that are not known: %v", err)
	}
}

func FuzzProof(f *testing.F) {
	for _, seed := range []string{v1, v2, v3a, v3b, "", "..", "a.b.c", "e30.e30.", strings.Repeat("W", 4096)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, jwt string) {
		p, err := parseProof(jwt)
		if err != nil {
			if p != nil {
				t.Error("a proof beside an error")
			}
			return
		}
		if len(jwt) > maxProof || p.challenge == "" || !strings.HasPrefix(jwt, p.signed+".") {
			t.Errorf("it was read as %q", p.signed)
		}
		rest := jwt[len(p.signed)+1:]
		if rest != base64.RawURLEncoding.EncodeToString(p.signature[:]) {
			t.Error("two spellings of one signature")
		}
		if p.key != nil {
			if _, err := p.key.ecdsa(); err != nil {
				t.Error("a key off the curve")
			}
			p.verify(p.key)
		}
	})
}
