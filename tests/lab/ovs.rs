//! What only hosts with Open vSwitch have: OpenFlow numbers that change, VLANs as fake bridges, others' flows, a switch
//! that ends and comes back.

mod beside;
mod boot;
mod broken;
mod mixed;
mod oracle;
mod ports;
mod restart;
