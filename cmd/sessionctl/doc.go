// Sessionctl creates keys for package sessions and explains its cookies.
//
// Usage:
//
//	sessionctl keygen                         print a new secret
//	sessionctl inspect [-name NAME] [COOKIE]  explain a cookie, or why it is refused
//	sessionctl rotate [-behind] [-keep N]     print the next SESSION_KEYS
//	sessionctl help                           print this text
//	sessionctl version                        print the version
//
// The secrets are read from the environment variable SESSION_KEYS:
// comma-separated base64, newest first, as for sessions.ParseKeyring. To keep
// them out of the history of the shell, read them from a file:
//
//	SESSION_KEYS="$(cat session-keys)" sessionctl inspect < cookie
//
// # keygen
//
// The keygen command prints 32 random bytes in base64. They are a SESSION_KEYS
// for a new application.
//
// # inspect
//
// The inspect command prints the content of a cookie: its mode, its key in the
// ring, when the session began, was last used and expires, its public id, the
// device that it is bound to (see package dbsc), its flash messages, and its
// data as JSON, with bytes in base64. For a cookie that is refused it prints
// the reason: the cookie was changed, truncated or re-encoded, its key is not
// in the ring, it was made for another cookie name, it has expired, or its data
// cannot be read.
//
// Pass the cookie on the standard input, also with the argument "-", or as an
// argument. An argument is visible to other users in the list of processes. The
// input can be the value of the cookie, name=value, a Cookie or Set-Cookie
// header, the headers of a whole request, the output of curl -v, or a curl
// command line as copied from a browser. If it has several cookies, inspect
// explains those whose values have the format of this library.
//
//	-name NAME  the name of the application's cookie, Config.Cookie.Name. The
//	            keys depend on it. By default inspect uses the name in the
//	            input. For a value without a name it tries the default names:
//	            __Host-Http-session, __Secure-session, session
//
// The application may still refuse a cookie that inspect finds good, since
// inspect does not know the Store, the IdleTimeout, the upgrades and the
// validation rules. It never prints a secret, nor the secret id in a cookie. It
// prints the other content of a session as it is, which may be personal data.
//
// # rotate
//
// The rotate command prints SESSION_KEYS with a new secret in front, which then
// signs. The other secrets stay, so that no user is signed out. A ring has at
// most 16 secrets; rotate drops the oldest beyond that. It prints the ids of all
// keys, which are not secret, to the standard error. Only rotate and keygen
// print secrets.
//
//	-behind  put the new secret behind the others: it is accepted but does not
//	         sign yet
//	-keep N  keep at most N secrets, including the new one, and drop the oldest
//
// If several processes share sessions, a process without the new secret would
// refuse cookies that another has signed with it. In this case, rotate in three
// steps. Run rotate -behind and deploy the result to all processes. Then move
// the last secret to the front and deploy that. Drop the oldest secret when the
// longest lifetime of a session has passed.
//
// # Exit status
//
//	0  success; for inspect: every cookie is good
//	1  a cookie is refused, or the input has no cookie
//	2  wrong usage, SESSION_KEYS missing or wrong, input that cannot be read
package main
