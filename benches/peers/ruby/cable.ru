# ActionCable by itself under Puma, on Redis: `REDIS_URL=.. puma --bind tcp://127.0.0.1:PORT cable.ru`.

require "action_cable"

ActionCable.server.config.cable = { adapter: "redis", url: ENV.fetch("REDIS_URL") }
ActionCable.server.config.logger = Logger.new(File::NULL)
ActionCable.server.config.disable_request_forgery_protection = true
# What an application names by itself.
ActionCable.server.config.connection_class = -> { ActionCable::Connection::Base }

class BenchChannel < ActionCable::Channel::Base
  def subscribed
    stream_from params[:topic]
  end
end

run ActionCable.server
