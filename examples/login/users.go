package main

import "golang.org/x/crypto/bcrypt"

// demoUsers are the people of this demo with their passwords. A real
// application has a table of users, keeps hashes only, and limits how often
// anybody may try.
var demoUsers = map[string]string{
	"ada":   "analytical engine",
	"grace": "nanosecond wire",
}

const demoUser = "ada" // whom main and the sign-in page suggest

// users maps names to password hashes.
type users struct {
	hashes map[string][]byte
	nobody []byte // the hash that unknown names are checked against
}

// newUsers hashes passwords with bcrypt of the given cost.
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

// check reports whether name is a user and password is his. An unknown name
// costs as much work as a known one, so that the time of an answer does not
// tell who has an account.
func (u *users) check(name, password string) bool {
	hash, known := u.hashes[name]
	if !known {
		hash = u.nobody
	}
	matches := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
	return known && matches
}
