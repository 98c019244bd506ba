// A Go client of hbtd: go run main.go URL AUTHORITIES.
//
// It sends heartbeats and asks for the parameters and for a state, all of it twice, and prints what
// it has seen, a line for each request and one for the connections. It would rather speak HTTP/2.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
)

const beat = `{"Component":"x1000c0s0b0n0","Hostname":"n","NID":"1","Status":"OK",` +
	`"Timestamp":"2026-11-23T00:00:00Z"}`

func main() {
	pem, err := os.ReadFile(os.Args[2])
	check(err)
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: authorities},
	}}
	fresh, reused := 0, 0
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if got.Reused {
			reused++
		} else {
			fresh++
		}
	}}
	for round := 0; round < 2; round++ {
		for _, each := range []struct{ method, path, body string }{
			{"POST", "/hmi/v1/heartbeat", beat},
			{"GET", "/hmi/v1/params", ""},
			{"POST", "/hmi/v1/heartbeat", beat},
			{"GET", "/hmi/v1/hbstate/x1000c0s0b0n0", ""},
			{"GET", "/hmi/v1/openapi.json", ""},
		} {
			request, err := http.NewRequest(
				each.method, os.Args[1]+each.path, strings.NewReader(each.body))
			check(err)
			traced := httptrace.WithClientTrace(request.Context(), trace)
			response, err := client.Do(request.WithContext(traced))
			check(err)
			body, err := io.ReadAll(response.Body)
			check(err)
			response.Body.Close()
			fmt.Printf("%s %s: %d %s, %s, ALPN %q, %t\n", each.method, each.path,
				response.StatusCode, response.Proto, tls.VersionName(response.TLS.Version),
				response.TLS.NegotiatedProtocol, len(body) > 0)
		}
	}
	fmt.Printf("connections: %d fresh, %d reused\n", fresh, reused)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
