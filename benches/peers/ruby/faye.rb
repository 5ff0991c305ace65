# faye-websocket under Thin, on EventMachine: `ruby faye.rb PORT [--to sender|all]`.

require "faye/websocket"
require "rack"
require "thin"

port, _, to = ARGV
to_all = to == "all"

EM.epoll
EM.set_descriptor_table_size(Process.getrlimit(:NOFILE).first)
Faye::WebSocket.load_adapter("thin")
Thin::Logging.silent = true

sockets = {}

app = lambda do |env|
  return [426, { "Content-Type" => "text/plain" }, ["a WebSocket, please"]] unless Faye::WebSocket.websocket?(env)

  ws = Faye::WebSocket.new(env, nil, max_length: 64 * 1024 * 1024)
  # A binary message is an array of bytes, and goes back as such.
  if to_all
    ws.on(:open) { sockets[ws] = true }
    ws.on(:close) { sockets.delete(ws) }
    ws.on(:message) { |event| sockets.each_key { |each| each.send(event.data) } }
  else
    ws.on(:message) { |event| ws.send(event.data) }
  end
  ws.rack_response
end

server = Thin::Server.new("127.0.0.1", port.to_i, app, signals: false)
server.maximum_connections = Process.getrlimit(:NOFILE).first
server.maximum_persistent_connections = server.maximum_connections
server.timeout = 0
server.start
