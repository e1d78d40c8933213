// Shows on an open page that its session has ended, as by "Sign out everywhere else"
// on another device. The shop works without it: the next click would tell.
const stream = new EventSource('/sessions/end')
stream.addEventListener('end', (event) => {
  stream.close()
  const message = document.createElement('p')
  message.className = 'flash error'
  message.role = 'alert'
  message.textContent = event.data
  document.querySelector('main').prepend(message)
})
