package demo

import (
	"html/template"
	"strings"

	"github.com/typedsessions/sessions"
)

// LoginPage returns the page with the sign-in form.
func LoginPage(flashes []sessions.Flash) string { return render("login", AppSession{}, flashes) }

// DashboardPage returns the page for a signed-in user. Its script opens the stream
// and the WebSocket.
func DashboardPage(data AppSession, flashes []sessions.Flash) string {
	return render("dashboard", data, flashes)
}

// render returns a page as a string, which every framework can send. The flash
// messages are taken before the first byte is sent.
func render(name string, data AppSession, flashes []sessions.Flash) string {
	var page strings.Builder
	err := pages.ExecuteTemplate(&page, name, struct {
		AppSession
		Flashes []sessions.Flash
	}{data, flashes})
	if err != nil {
		panic(err) // an error in the templates below, which the tests execute
	}
	return page.String()
}

var pages = template.Must(template.New("").Parse(`
{{define "head"}}<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sessions</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 24rem; margin: 3rem auto; padding: 0 1rem }
label, input { display: block }
input, button { font: inherit; margin-bottom: 1rem }
</style>
{{range .Flashes}}<p role="status" class="{{.Kind}}">{{.Message}}</p>
{{end}}{{end}}

{{define "login"}}{{template "head" .}}
<h1>Sign in</h1>
<form method="post" action="/login">
<label for="user">Name</label> <input id="user" name="user" autocomplete="username" required>
<label for="password">Password</label> <input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button>
</form>
{{end}}

{{define "dashboard"}}{{template "head" .}}
<h1>Hello, {{.User}}</h1>
<p>Seconds here: <output id="seconds">{{.Seconds}}</output></p>
<p>Messages sent: <output id="messages">{{.Messages}}</output></p>
<form id="chat">
<label for="text">Message</label> <input id="text" required>
<button>Send</button>
</form>
<p role="log" id="log"></p>
<form method="post" action="/logout"><button>Sign out</button></form>
<script>
const show = (id, text) => document.getElementById(id).textContent = text
const events = new EventSource("/events")
events.addEventListener("second", e => show("seconds", e.data))
events.addEventListener("end", e => { events.close(); show("log", e.data) })
const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws")
socket.onmessage = e => show("log", e.data)
socket.onclose = e => show("log", e.reason)
document.getElementById("chat").onsubmit = e => {
	e.preventDefault()
	socket.send(document.getElementById("text").value)
}
</script>
{{end}}`))
