package shop

import "golang.org/x/crypto/bcrypt"

// Passwords are the users of this demo with their passwords. A real application
// has a table of users, keeps hashes only, and limits the attempts to sign in.
var Passwords = map[string]string{
	"ada":   "analytical engine",
	"grace": "nanosecond wire",
}

// DemoUser is the user whom the program and its sign-in page suggest.
const DemoUser = "ada"

// users holds the password hashes of the users.
type users struct {
	hashes map[string][]byte // by name
	nobody []byte            // for names that do not exist
}

// newUsers hashes the passwords, which are listed by name, with bcrypt of the
// given cost.
func newUsers(passwords map[string]string, cost int) (*users, error) {
	u := &users{hashes: make(map[string][]byte)}
	for name, password := range passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
		if err != nil {
			return nil, err
		}
		u.hashes[name] = hash
	}
	var err error
	u.nobody, err = bcrypt.GenerateFromPassword([]byte("nobody"), cost)
	return u, err
}

// check reports whether there is a user of that name with that password. An
// unknown name costs as much work as a known one, so that the time of an answer
// does not show which names have an account.
func (u *users) check(name, password string) bool {
	hash, known := u.hashes[name]
	if !known {
		hash = u.nobody
	}
	matches := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
	return known && matches
}
