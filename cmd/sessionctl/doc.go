// Sessionctl makes keys for package sessions and explains its cookies.
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
// comma-separated base64, the newest first, as sessions.ParseKeyring takes them.
//
// # keygen
//
// prints 32 random bytes in base64: a SESSION_KEYS for a new application.
//
// # inspect
//
// says what a cookie holds: how it was made and by which key of the ring, when
// the session began, was last used and ends, its public id, its messages and its
// data as JSON, bytes in base64. Of a cookie that is refused it says why: it was
// changed, cut short or spelled anew, its key is not in the ring, it was made for
// a cookie of another name, it has expired, or what is in it cannot be read.
//
// The cookie comes as an argument or, better since others cannot see it in the
// list of processes, on the standard input, also as the argument "-": its value,
// name=value, a Cookie or Set-Cookie header, the headers of a whole request, what
// curl -v prints, or a curl command line, as browsers copy it. Of several cookies
// those are explained whose value has our format.
//
//	-name NAME  the name of the application's cookie, Config.Cookie.Name; it is
//	            part of the keys. Without it the name that comes with the value
//	            counts, and of a value alone each of the default names:
//	            __Host-session, __Secure-session, session
//
// A good cookie may be refused by the application all the same: inspect knows
// neither its Store nor its IdleTimeout, upgrades and rules for data.
// No secret is ever printed, nor the secret id in a cookie. The rest of
// a session is printed as it is: mind whose it is.
//
// # rotate
//
// prints SESSION_KEYS with a new secret in front, which signs from then on. The
// others stay, so that nobody is signed out, but for those above 16, which is
// the most that a ring has. The ids of all keys, which are no secrets, go to the
// standard error. It is the only command besides keygen that prints secrets.
//
//	-behind  put the new secret behind the others: it is accepted, and signs
//	         nothing yet
//	-keep N  keep at most N secrets, the new one included, and drop the oldest
//
// Where several processes share sessions, one that has not yet got the new
// secret would refuse what another has signed with it. There, rotate -behind and
// roll that out everywhere; then move the last secret to the front and roll that
// out; and drop the oldest once the longest lifetime of a session has passed.
//
// # Exit status
//
//	0  done; of inspect: every cookie is good
//	1  a cookie is refused, or there is none in the input
//	2  wrong usage, SESSION_KEYS missing or wrong, input that cannot be read
package main
