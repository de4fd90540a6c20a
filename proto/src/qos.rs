//! Quality of service: what a program asks of a flow.

use crate::v1;

/// What two programs ask of a flow. Times are milliseconds; 0 leaves them to the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Qos {
    /// What the flow is carried as.
    pub cube: Cube,
    /// A silent peer is given up after this long.
    pub timeout_ms: u32,
    /// An empty datagram at least this often while the flow is idle; programs never see it. 0: none.
    pub keepalive_ms: u32,
}

/// What a flow is carried as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cube {
    /// Bare datagrams: unreliable, unordered, in clear, as fast as the socket.
    #[default]
    Raw,
    /// Encrypted messages.
    Message,
    /// Encrypted, reliable byte streams.
    Stream,
}

impl Cube {
    /// The byte that stands for the cube in a datagram.
    pub fn code(self) -> u8 {
        match self {
            Self::Raw => 1,
            Self::Message => 2,
            Self::Stream => 3,
        }
    }

    /// The cube of a datagram's byte.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Raw),
            2 => Some(Self::Message),
            3 => Some(Self::Stream),
            _ => None,
        }
    }

    /// "raw", "message" or "stream".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Message => "message",
            Self::Stream => "stream",
        }
    }
}

/// Text that is no cube.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchCube(String);

impl std::fmt::Display for NoSuchCube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' is no QoS; give raw, message or stream", self.0)
    }
}

impl std::error::Error for NoSuchCube {}

impl std::str::FromStr for Cube {
    type Err = NoSuchCube;

    fn from_str(text: &str) -> Result<Self, NoSuchCube> {
        let cubes = [Self::Raw, Self::Message, Self::Stream];
        cubes.into_iter().find(|cube| cube.as_str() == text).ok_or_else(|| NoSuchCube(text.to_owned()))
    }
}

impl From<Cube> for Qos {
    /// With the layer's defaults.
    fn from(cube: Cube) -> Self {
        Self { cube, ..Self::default() }
    }
}

impl Qos {
    /// Bare datagrams with the layer's defaults.
    pub fn raw() -> Self {
        Self::default()
    }

    /// Encrypted messages with the layer's defaults.
    pub fn message() -> Self {
        Self { cube: Cube::Message, ..Self::default() }
    }

    /// Encrypted byte streams with the layer's defaults.
    pub fn stream() -> Self {
        Self { cube: Cube::Stream, ..Self::default() }
    }
}

impl From<Qos> for v1::QosSpec {
    fn from(qos: Qos) -> Self {
        Self { cube: i32::from(qos.cube.code()), timeout_ms: qos.timeout_ms, keepalive_ms: qos.keepalive_ms }
    }
}

impl TryFrom<v1::QosSpec> for Qos {
    type Error = v1::Failure;

    /// A cube this version has never heard of is refused, an unspecified one is raw.
    fn try_from(spec: v1::QosSpec) -> Result<Self, v1::Failure> {
        let cube = match spec.cube {
            0 => Cube::Raw,
            n => u8::try_from(n).ok().and_then(Cube::from_code).ok_or_else(|| {
                v1::Failure::new(
                    v1::FailureKind::UnsupportedQos,
                    format!("QoS cube {n} is unknown to this version; ask for raw, message or stream"),
                )
            })?,
        };
        Ok(Self { cube, timeout_ms: spec.timeout_ms, keepalive_ms: spec.keepalive_ms })
    }
}
