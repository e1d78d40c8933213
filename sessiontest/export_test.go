package sessiontest

// Advice is the advice of Read for each reason.
var Advice = advice
