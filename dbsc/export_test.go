package dbsc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// Sign makes a proof as Chromium 156 does: with the key in a registration, and
// deterministic (RFC 6979), so that known answers can be compared.
func Sign(key *ecdsa.PrivateKey, registration bool, challenge, authorization string) string {
	header := map[string]any{"alg": "ES256", "typ": "dbsc+jwt"}
	if registration {
		header["jwk"] = JWK(key)
	}
	claims := map[string]any{"jti": challenge}
	if authorization != "" {
		claims["authorization"] = authorization
	}
	return SignParts(key, header, claims)
}

// JWK returns the public half of a key.
func JWK(key *ecdsa.PrivateKey) map[string]any {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])}
}

// SignParts signs any header and any claims.
func SignParts(key *ecdsa.PrivateKey, header, claims map[string]any) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	signed := encode(h) + "." + encode(c)
	hash := sha256.Sum256([]byte(signed))
	der, err := key.Sign(nil, hash[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	rs.R.FillBytes(signature[:32])
	rs.S.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// BoundCookie returns the name of the bound cookie.
func (d *Devices) BoundCookie() string { return d.cookie.Name }
