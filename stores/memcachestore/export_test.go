package memcachestore

var Exptime = exptime
