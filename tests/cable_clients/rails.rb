# Broadcasts with Rails's own ActionCable, by the Redis adapter. Arguments: the URL of Redis, and the channel prefix or
# nothing. Each line of standard input is an order; the answer is a line with it.

require "base64"
require "logger"
require "action_cable"
require "globalid"

url, prefix = ARGV
server = ActionCable.server
server.config.cable = { "adapter" => "redis", "url" => url, "channel_prefix" => prefix }.compact.with_indifferent_access
server.config.logger = Logger.new(nil)

GlobalID.app = "TestApp"

class Post
  include GlobalID::Identification
  attr_reader :id

  def initialize(id) = @id = id

  def self.find(id) = new(id)
end

class TestConnection < ActionCable::Connection::Base
  identified_by :current_user, :tab
end

class CommentsChannel < ActionCable::Channel::Base; end

module Chats
  class AppearancesChannel < ActionCable::Channel::Base; end
end

server.config.connection_class = -> { TestConnection }
post = Post.new(1)

while (order = $stdin.gets&.chomp)
  case order
  when "hash" then server.broadcast("chat_1", { x: 1 })
  when "html" then server.broadcast("chat_1", "<p>&</p>")
  when "nil" then server.broadcast("chat_1", nil)
  when "raw" then server.broadcast("chat_1", "not {json", coder: nil)
  when "to model" then CommentsChannel.broadcast_to(post, { body: "é" })
  when "to parts" then CommentsChannel.broadcast_to([post, "tab"], 2)
  when "to nested" then Chats::AppearancesChannel.broadcast_to("all", [3])
  when "disconnect" then server.remote_connections.where(current_user: post, tab: "7").disconnect
  when /\Amany (\d+)\z/ then $1.to_i.times { |number| server.broadcast("chat_1", number) }
  else abort "unknown order #{order}"
  end
  $stdout.puts order
  $stdout.flush
end
