"""The science of an audit: models, dissection, mitigation, measurement. Knows no cluster, tracker or template."""
