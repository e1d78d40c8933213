# Varnish in front of a program with sessions:
#
#   varnishd -a 127.0.0.1:8000 -f varnish.vcl -p http_req_hdr_len=16k
#
# Several full cookies in a request: by default a header line may have 8k.
# Nothing here touches the Cookie header: a session's cookie must reach the program.
vcl 4.1;

backend default {
	.host = "127.0.0.1";
	.port = "8080";
	# A quiet stream stays open: by default for one minute.
	.between_bytes_timeout = 1h;
}

sub vcl_recv {
	# WebSockets.
	if (req.http.Upgrade ~ "(?i)websocket") {
		return (pipe);
	}
}

sub vcl_pipe {
	if (req.http.Upgrade) {
		set bereq.http.Upgrade = req.http.Upgrade;
		set bereq.http.Connection = req.http.Connection;
	}
}
