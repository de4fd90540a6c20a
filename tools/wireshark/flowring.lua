-- Wireshark dissector for what Flowring's hosts say to each other about flows: allocation and control datagrams of the
-- shim over UDP (docs/shim-udp.md), and the bare names of 2016. What flows carry is left to Wireshark: SDUs of raw flows
-- are anything, message and stream flows are QUIC.
--
-- Copy it into the folder of personal Lua plugins (Help, About Wireshark, Folders), or:
--   tshark -X lua_script:flowring.lua -r flow.pcapng -Y flowring

local flowring = Proto("flowring", "Flowring")

local KINDS = {
  [1] = "request", [2] = "answer", [3] = "control", [4] = "classic request", [5] = "classic echo", [6] = "malformed",
}
local VERDICTS = {
  [1] = "PENDING", [2] = "ACCEPTED", [3] = "refused", [4] = "unknown name", [5] = "nobody accepts", [6] = "not permitted",
  [7] = "unsupported QoS", [8] = "exhausted", [9] = "version", [10] = "RECOVERING", [11] = "cookie wanted",
}
local CONTROLS = {
  [1] = "dealloc", [2] = "dealloc ack", [3] = "probe", [4] = "alive", [5] = "no such flow", [6] = "RECOVERING",
  [7] = "OPEN", [8] = "OPENED", [9] = "moved",
}
local CUBES = { [1] = "raw", [2] = "message", [3] = "stream" }

local f = {
  kind = ProtoField.uint8("flowring.kind", "Kind", base.DEC, KINDS),
  name = ProtoField.string("flowring.name", "Name", base.UNICODE),
  version = ProtoField.uint8("flowring.version", "Version"),
  length = ProtoField.uint16("flowring.length", "Length of header and fields"),
  host = ProtoField.uint64("flowring.host", "Sender's host id", base.HEX),
  boot = ProtoField.uint64("flowring.boot", "Sender's boot id", base.HEX),
  -- Of every datagram that names flows, whichever side it is of: one filter finds all of a flow.
  flow_id = ProtoField.uint64("flowring.flow_id", "Id of the flow", base.HEX),
  client_id = ProtoField.uint64("flowring.client_id", "Client's id of the flow", base.HEX),
  server_id = ProtoField.uint64("flowring.server_id", "Server's id of the flow", base.HEX),
  sender_id = ProtoField.uint64("flowring.sender_id", "Sender's id of the flow", base.HEX),
  receiver_id = ProtoField.uint64("flowring.receiver_id", "Receiver's id of the flow", base.HEX),
  source = ProtoField.string("flowring.source", "Source", base.UNICODE),
  cube = ProtoField.uint8("flowring.qos.cube", "QoS cube", base.DEC, CUBES),
  timeout = ProtoField.uint32("flowring.qos.timeout", "Timeout (ms)"),
  keepalive = ProtoField.uint32("flowring.qos.keepalive", "Keep-alive (ms)"),
  deadline = ProtoField.uint32("flowring.deadline", "Deadline (ms)"),
  data = ProtoField.bytes("flowring.data", "Data of the program"),
  cookie = ProtoField.bytes("flowring.cookie", "Cookie"),
  verdict = ProtoField.uint8("flowring.verdict", "Answer", base.DEC, VERDICTS),
  reason = ProtoField.string("flowring.reason", "Reason", base.UNICODE),
  server_port = ProtoField.uint16("flowring.server_port", "Server's port of the flow"),
  listen_port = ProtoField.uint16("flowring.listen_port", "Client's listen port"),
  direct = ProtoField.none("flowring.direct", "Direct: one answer is enough"),
  unknown = ProtoField.bytes("flowring.unknown", "Field of unknown type"),
  control = ProtoField.uint8("flowring.control", "Control", base.DEC, CONTROLS),
  died = ProtoField.bool("flowring.died", "Program ended without deallocating"),
  padding = ProtoField.bytes("flowring.padding", "Padding"),
}
flowring.fields = f

local broken = ProtoExpert.new("flowring.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local refusal = ProtoExpert.new("flowring.refused", "Allocation refused", expert.group.RESPONSE_CODE, expert.severity.NOTE)
flowring.experts = { broken, refusal }

flowring.prefs.ports = Pref.range("UDP ports", "3359", "Ports that shims listen on", 65535)

local MAGIC = "Flow"
local HEADER = 40
local LONGEST_NAME = 255

-- Who asked for what, by frame: datagrams are dissected again in any order. Client's address and port: its name, the
-- address that was asked.
local asked = {}
local echoes = {}

function flowring.init()
  asked = {}
  echoes = {}
end

local function has_magic(tvb, at)
  return tvb:len() >= at + 5 and tvb:raw(at, 4) == MAGIC
end

-- Where the name ends: before the first NUL, or with the datagram.
local function name_end(tvb)
  local length = math.min(tvb:len(), LONGEST_NAME + 1)
  for at = 0, length - 1 do
    if tvb(at, 1):uint() == 0 then return at end
  end
  if tvb:len() <= LONGEST_NAME then return tvb:len() end
  return nil
end

local function hex(range)
  return tostring(range:bytes()):lower()
end

local function add_kind(tree, kind)
  tree:add(f.kind, kind):set_generated()
end

local function malformed(tree, tvb, why)
  add_kind(tree, 6)
  tree:add_proto_expert_info(broken, why)
  return "malformed: " .. why
end

local function add_flow(tree, range)
  tree:add(f.flow_id, range):set_generated()
end

-- The fields of an extension: what each is and how long it may be.
local field = {
  [1] = function(tree, value) tree:add(f.source, value) end,
  [2] = function(tree, value, said)
    if value:len() ~= 9 then return false end
    tree:add(f.cube, value(0, 1))
    tree:add(f.timeout, value(1, 4))
    tree:add(f.keepalive, value(5, 4))
    said.cube = CUBES[value(0, 1):uint()] or "unknown QoS"
  end,
  [3] = function(tree, value)
    if value:len() ~= 4 then return false end
    tree:add(f.deadline, value)
  end,
  [4] = function(tree, value) tree:add(f.data, value) end,
  [5] = function(tree, value, said)
    tree:add(f.cookie, value)
    said.cookie = true
  end,
  [6] = function(tree, value, said)
    if value:len() ~= 1 then return false end
    local verdict = value:uint()
    local item = tree:add(f.verdict, value)
    said.verdict = VERDICTS[verdict] or "unknown"
    if verdict >= 3 and verdict <= 9 then item:add_proto_expert_info(refusal, said.verdict) end
  end,
  [7] = function(tree, value, said)
    tree:add(f.reason, value)
    said.reason = value:string(ENC_UTF_8)
  end,
  [8] = function(tree, value, said)
    if value:len() ~= 2 then return false end
    tree:add(f.server_port, value)
    said.port = value:uint()
  end,
  [9] = function(tree, value)
    if value:len() ~= 2 then return false end
    tree:add(f.listen_port, value)
  end,
}

local function fields(tree, tvb, at, stop, said)
  while at < stop do
    if at + 3 > stop then return false end
    local kind, length = tvb(at, 1):uint(), tvb(at + 1, 2):uint()
    if at + 3 + length > stop then return false end
    if kind == 10 and length == 0 then
      tree:add(f.direct, tvb(at, 3))
    elseif field[kind] and length > 0 then
      if field[kind](tree, tvb(at + 3, length), said) == false then return false end
    elseif not field[kind] and length > 0 then
      tree:add(f.unknown, tvb(at + 3, length))
    end
    at = at + 3 + length
  end
  return true
end

-- Behind name and NUL: header and fields. Gives the line for the list of packets.
local function extension(tree, tvb, at, name)
  if tvb:len() < at + HEADER then return malformed(tree, tvb, "header cut off") end
  local version, kind, length = tvb(at + 4, 1):uint(), tvb(at + 5, 1):uint(), tvb(at + 6, 2):uint()
  tree:add(f.version, tvb(at + 4, 1))
  if version ~= 1 then
    add_kind(tree, kind == 2 and 2 or 1)
    tree:add(f.client_id, tvb(at + 24, 8))
    add_flow(tree, tvb(at + 24, 8))
    return string.format("%s %s of version %d", kind == 2 and "answer" or "request", name, version)
  end
  if kind ~= 1 and kind ~= 2 or length < HEADER or tvb:len() < at + length then
    return malformed(tree, tvb, "header contradicts itself")
  end
  add_kind(tree, kind)
  tree:add(f.length, tvb(at + 6, 2))
  tree:add(f.host, tvb(at + 8, 8))
  tree:add(f.boot, tvb(at + 16, 8))
  tree:add(f.client_id, tvb(at + 24, 8))
  add_flow(tree, tvb(at + 24, 8))
  local ids = hex(tvb(at + 24, 8))
  if kind == 2 and tvb(at + 32, 8):uint64() ~= UInt64(0) then
    tree:add(f.server_id, tvb(at + 32, 8))
    add_flow(tree, tvb(at + 32, 8))
    ids = ids .. " / " .. hex(tvb(at + 32, 8))
  end
  local said = {}
  if not fields(tree, tvb, at + HEADER, at + length, said) then
    tree:add_proto_expert_info(broken, "a field contradicts itself")
  end
  if tvb:len() > at + length then tree:add(f.padding, tvb(at + length)) end
  if kind == 1 then
    local cookie = said.cookie and ", with a cookie" or ""
    return string.format("request %s, %s, flow %s%s", name, said.cube or "raw", ids, cookie)
  end
  local text = string.format("answer %s: %s, flow %s", name, said.verdict or "nothing", ids)
  if said.port then text = text .. ", at port " .. said.port end
  if said.reason then text = text .. string.format(": \"%s\"", said.reason) end
  return text
end

local function control(tree, tvb)
  if tvb:len() < HEADER then return malformed(tree, tvb, "control datagram cut off") end
  local version, kind = tvb(5, 1):uint(), tvb(6, 1):uint()
  if version ~= 1 or not CONTROLS[kind] then
    tree:add(f.version, tvb(5, 1))
    return malformed(tree, tvb, "control datagram of another version or kind")
  end
  add_kind(tree, 3)
  tree:add(f.version, tvb(5, 1))
  tree:add(f.control, tvb(6, 1))
  if kind == 1 then tree:add(f.died, tvb(7, 1)) end
  tree:add(f.host, tvb(8, 8))
  tree:add(f.boot, tvb(16, 8))
  tree:add(f.sender_id, tvb(24, 8))
  tree:add(f.receiver_id, tvb(32, 8))
  add_flow(tree, tvb(24, 8))
  add_flow(tree, tvb(32, 8))
  return string.format("%s, flow %s to %s", CONTROLS[kind], hex(tvb(24, 8)), hex(tvb(32, 8)))
end

local function place(address, port)
  return tostring(address) .. " " .. port
end

-- What is a datagram? 1: name and extension, 2: control, 3: a bare name to a listen port, 4: its echo.
local function look(tvb, pinfo)
  if tvb:len() == 0 then return nil end
  if tvb(0, 1):uint() == 0 then return has_magic(tvb, 1) and 2 or nil end
  local stop = name_end(tvb)
  if stop and stop > 0 and has_magic(tvb, stop + 1) then return 1 end
  if echoes[pinfo.number] then return 4 end
  if pinfo.visited or not stop then return nil end
  -- The first that comes back to who asked, with the name: an echo. What follows is an SDU.
  local before = asked[place(pinfo.dst, pinfo.dst_port)]
  if before and before.host == tostring(pinfo.src) and before.name == tvb:raw(0, stop) and not before.echoed[pinfo.src_port] then
    before.echoed[pinfo.src_port] = true
    echoes[pinfo.number] = true
    return 4
  end
  return nil
end

local function remember(tvb, pinfo, stop)
  if not pinfo.visited then
    local echoed = {}
    asked[place(pinfo.src, pinfo.src_port)] = { name = tvb:raw(0, stop), host = tostring(pinfo.dst), echoed = echoed }
  end
end

local function dissect(tvb, pinfo, tree, what)
  local root = tree:add(flowring, tvb())
  local text
  if what == 2 then
    text = control(root, tvb)
  else
    local stop = name_end(tvb)
    if not stop or stop == 0 then
      text = malformed(root, tvb, stop and "no name" or "too long")
    else
      local name = tvb(0, stop):string(ENC_UTF_8)
      root:add(f.name, tvb(0, stop))
      if what == 1 then
        -- A classic server may give the request back, extension and all: it is an echo to who asked.
        if tvb:len() > stop + 6 and tvb(stop + 6, 1):uint() == 1 then remember(tvb, pinfo, stop) end
        text = extension(root, tvb, stop + 1, name)
      elseif what == 4 then
        add_kind(root, 5)
        text = "classic echo " .. name
      else
        add_kind(root, 4)
        remember(tvb, pinfo, stop)
        text = "classic request " .. name
      end
    end
  end
  pinfo.cols.protocol = "Flowring"
  pinfo.cols.info = text
  root:append_text(": " .. text)
  return tvb:len()
end

local listening = {}

-- By port: a listen port hears bare names, too.
function flowring.dissector(tvb, pinfo, tree)
  local what = look(tvb, pinfo)
  if not what then
    -- SDUs of a flow on the listen port have no sign of their own; a bare name is short text without control characters.
    if tvb:len() == 0 then return 0 end
    local stop = name_end(tvb)
    if not listening[pinfo.dst_port] or not stop or stop == 0 or tvb:raw(0, stop):find("%c") then return 0 end
    what = 3
  end
  return dissect(tvb, pinfo, tree, what)
end

-- On all other ports: what begins as ours, and echoes.
local function heuristic(tvb, pinfo, tree)
  local what = look(tvb, pinfo)
  if not what then return false end
  dissect(tvb, pinfo, tree, what)
  return true
end

local udp = DissectorTable.get("udp.port")

local function listen_on(ports)
  for port in pairs(listening) do udp:remove(port, flowring) end
  listening = {}
  for first, last in tostring(ports):gmatch("(%d+)%-?(%d*)") do
    for port = tonumber(first), math.min(tonumber(last) or tonumber(first), tonumber(first) + 1023) do
      listening[port] = true
      udp:add(port, flowring)
    end
  end
end

function flowring.prefs_changed()
  listen_on(flowring.prefs.ports)
end

listen_on(flowring.prefs.ports)
flowring:register_heuristic("udp", heuristic)
