package main

type badges struct {
	N    int    `msg:"n"`
	Name string `msg:"name"`
}
