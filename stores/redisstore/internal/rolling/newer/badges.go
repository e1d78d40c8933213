package main

import "time"

type badges struct {
	N     int       `msg:"n"`
	Name  string    `msg:"name"`
	Trial time.Time `msg:"trial"`
}
