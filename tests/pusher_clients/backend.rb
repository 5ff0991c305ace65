# Calls of the HTTP API from Ruby without a gem: `backend.rb PORT ID KEY SECRET`. Prints `ok NAME` for each step that went as it
# should, and ends with 1 at the first that did not.

require "digest"
require "json"
require "net/http"
require "openssl"

PORT, APP_ID, KEY, SECRET = ARGV

def ask(method, path, params = {}, body = nil, secret: SECRET)
  path = "/apps/#{APP_ID}#{path}"
  query = { auth_key: KEY, auth_timestamp: Time.now.to_i, auth_version: "1.0" }.merge(params)
  query[:body_md5] = Digest::MD5.hexdigest(body) if body
  sorted = query.sort_by { |name, _| name.to_s }
  text = [method, path, sorted.map { |pair| pair.join("=") }.join("&")].join("\n")
  query[:auth_signature] = OpenSSL::HMAC.hexdigest("SHA256", secret, text)
  uri = URI("http://127.0.0.1:#{PORT}#{path}?#{URI.encode_www_form(query)}")
  request = Net::HTTP.const_get(method.capitalize).new(uri, "Content-Type" => "application/json")
  request.body = body
  answer = Net::HTTP.start(uri.host, uri.port) { |http| http.request(request) }
  [answer.code.to_i, answer.body]
end

def expect(name, answer, status, body = nil)
  abort "#{name}: #{answer}" unless answer[0] == status && (body.nil? || JSON.parse(answer[1]) == body)
  puts "ok #{name}"
end

event = { name: "e", channels: ["rb-news"], data: { text: "<ä> & =" }.to_json }.to_json
expect "an event", ask("POST", "/events", {}, event), 200, {}
batch = { batch: [{ channel: "rb-a", name: "e", data: "1" }] }.to_json
expect "a batch", ask("POST", "/batch_events", {}, batch), 200, {}
channels = ask("GET", "/channels", { filter_by_prefix: "presence-rb", info: "user_count" })
expect "channels", channels, 200, { "channels" => {} }
expect "a channel", ask("GET", "/channels/rb-news"), 200, { "occupied" => false }
expect "users", ask("GET", "/channels/presence-rb/users"), 200, { "users" => [] }
expect "a user", ask("POST", "/users/a%20b/terminate_connections", {}, "{}"), 200, {}
expect "another secret", ask("POST", "/events", {}, event, secret: "another"), 401
