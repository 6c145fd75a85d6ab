//! The probe: looks at a dataset's directory on the node that holds it, since only the node can.
