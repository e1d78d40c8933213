package sessiontest

// Mends are what Read says of each reason.
var Mends = mends
