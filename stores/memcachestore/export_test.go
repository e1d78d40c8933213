package memcachestore

var (
	Encode  = encode
	Exptime = exptime
)
