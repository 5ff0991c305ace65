# em-websocket on EventMachine, the server of the talks: `ruby em.rb PORT [--to sender|all]`.

require "em-websocket"

port, _, to = ARGV
to_all = to == "all"

EM.epoll
EM.set_descriptor_table_size(Process.getrlimit(:NOFILE).first)
EM::WebSocket.max_frame_size = 64 * 1024 * 1024

EM.run do
  sockets = {}
  EM::WebSocket.run(host: "127.0.0.1", port: port.to_i) do |ws|
    if to_all
      ws.onopen { sockets[ws] = true }
      ws.onclose { sockets.delete(ws) }
      ws.onmessage { |message| sockets.each_key { |each| each.send_text(message) } }
      ws.onbinary { |message| sockets.each_key { |each| each.send_binary(message) } }
    else
      ws.onmessage { |message| ws.send_text(message) }
      ws.onbinary { |message| ws.send_binary(message) }
    end
  end
end
