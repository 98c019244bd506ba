"""What tests share: servers, certificates, worlds in memory."""
