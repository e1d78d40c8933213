package keys

import (
	"crypto/aes"
	"crypto/cipher"
)

// A sealKey seals with XAES-256-GCM (https://c2sp.org/XAES-256-GCM). Half of
// a nonce of 24 random bytes derives a key for this one message; the other half
// is the nonce under it. So 2^80 messages are safe under one secret, where
// AES-GCM alone allows 2^32 random nonces (NIST SP 800-38D, section 8.3).
type sealKey struct {
	id    ID
	block cipher.Block
	k1    [aes.BlockSize]byte // the subkey of CMAC (NIST SP 800-38B)
}

func newSealKey(id ID, key []byte) *sealKey {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the length is ours
	}
	k := &sealKey{id: id, block: block}
	block.Encrypt(k.k1[:], k.k1[:])
	msb := k.k1[0] >> 7
	for i := range k.k1 {
		k.k1[i] <<= 1
		if i+1 < len(k.k1) {
			k.k1[i] |= k.k1[i+1] >> 7
		}
	}
	k.k1[len(k.k1)-1] ^= msb * 0x87
	return k
}

// message returns the AEAD of the message whose nonce starts with n. The AEAD
// draws and prefixes the rest of the nonce itself, which is also the only way to
// use AES-GCM that FIPS 140-3 approves.
func (k *sealKey) message(n []byte) cipher.AEAD {
	var key [32]byte
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], n)
		for j := range half {
			half[j] ^= k.k1[j]
		}
		k.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// MessageAEAD returns the AEAD that seals the one message whose nonce begins
// with n, 12 bytes, under a key of 32 bytes. The published vectors of
// XAES-256-GCM are tested with it.
func MessageAEAD(key, n []byte) cipher.AEAD { return newSealKey(ID{}, key).message(n) }
